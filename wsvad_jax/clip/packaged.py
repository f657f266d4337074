"""Name and folder of the CLIP model that comes with the package, the demo's."""

import pathlib

PACKAGED = "package:demo_clip"
PACKAGED_NAME = "clip"  # of its copies in demo datasets, which features state
PACKAGED_FOLDER = pathlib.Path(__file__).parents[1] / "assets" / "demo_clip"
