"""Programs from pixels to scores give the scores of `detect --live`, without the package."""

import io
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from sample_videos import write_video
from untrained import write_model

from wsvad_jax.detection import export_video, live
from wsvad_jax.detection.detector import Detector

RUNNER = pathlib.Path(__file__).parent.parent / "docs" / "run_exported_video.py"
# Runs a script as if this package and those that it builds on weren't installed.
WITHOUT = """
import runpy, sys
names = ("wsvad_jax", "flax", "transformers", "PIL", "optax", "ml_collections")
sys.modules.update(dict.fromkeys(names))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
FRAMES = {
    "dsanet": "mean",
    "vadclip": "first",
    "mil_ranking": "middle",
    "clip_tsa": "middle",
}


@pytest.fixture(scope="module")
def detectors(tiny, tmp_path_factory):
    """Detectors of all four models, with their image tower."""
    root = tmp_path_factory.mktemp("models")
    return {
        model: Detector(
            write_model(
                tiny,
                model,
                root / model,
                frame=frame,
                resize="clip" if model == "vadclip" else "stretch",
            ),
            clip=str(tiny.clip),
        )
        for model, frame in FRAMES.items()
    }


@pytest.fixture(scope="module")
def video_file(tmp_path_factory):
    """A video of more snippets than a window, the last one of 5 frames."""
    return write_video(tmp_path_factory.mktemp("videos") / "v.mp4", 16 * 41 + 5)


def run_exported(*arguments):
    """Returns the lines of the runner, as objects."""
    command = [sys.executable, "-c", WITHOUT, RUNNER, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def live_lines(detector, source):
    """Returns the lines of `detect --live` about snippets, as objects."""
    out = io.StringIO()
    live.run(detector, str(source), pace=0.0, out=out)
    lines = map(json.loads, out.getvalue().splitlines())
    return [line for line in lines if line["type"] == "snippet"]


def compare(found, wanted, atol=1e-4):
    """Checks that the lines of two programs agree."""
    assert len(found) == len(wanted) > 0
    for key in ("anomaly", "time"):
        values = [[line[key] for line in lines] for lines in (found, wanted)]
        np.testing.assert_allclose(*values, atol=atol if key == "anomaly" else 2e-3)
    assert [s.get("class") for s in found] == [s.get("class") for s in wanted]


@pytest.mark.parametrize("model", FRAMES)
def test_the_runner_prints_the_scores_of_a_live_source(
    detectors, video_file, tmp_path, model
):
    detector, path = detectors[model], tmp_path / "model.stablehlo"
    size = export_video.frame_size(str(video_file))
    export_video.export_video_model(detector, path, size=size)
    found, wanted = run_exported(path, video_file), live_lines(detector, video_file)
    compare(found, wanted)
    assert np.ptp([line["anomaly"] for line in found]) > 1e-3
