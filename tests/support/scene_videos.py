"""Videos of scenes that differ from each other, one picture of colours per scene."""

import pathlib
from collections.abc import Sequence

import av
import numpy as np
from PIL import Image

FPS = 16  # a snippet of 16 frames is a second


def scene(seed: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """A picture of smooth colours, RGB [H, W, 3]."""
    small = np.random.RandomState(seed).randint(0, 256, (3, 4, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


def write_scenes(path: pathlib.Path, seeds: Sequence[int]) -> pathlib.Path:
    """Writes a video that shows each scene for a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"crf": "10"}
        for seed in seeds:
            for _ in range(FPS):
                frame = av.VideoFrame.from_ndarray(scene(seed), format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
