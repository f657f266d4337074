"""Short real videos and detection results, for tests of pages."""

import fractions
import pathlib

import numpy as np

from wsvad_jax.detection.result import DetectionResult
from wsvad_jax.evaluation.events import Event

FPS = 16
CLASSES = ("Normal", "Fighting", "Arson")


def write_video(path: pathlib.Path, seconds: float = 10, *, codec="libx264", gop=16):
    """Writes a video whose frame i has the grey level of its time: 20 a second."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.bit_rate, stream.codec_context.gop_size = 2_000_000, gop
        for i in range(int(seconds * FPS)):
            picture = np.full((96, 128, 3), round(20 * i / FPS), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = i, fractions.Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def detection_result(
    name="clip", path=None, *, T=10, spans=((2, 5), (7, 8)), ground_truth=None
):
    """Returns a result with an event in each of `spans` (snippets of a second)."""
    anomaly, classes = np.full(T, 0.1), np.tile([0.9, 0.05, 0.05], (T, 1))
    events = []
    for i, (a, b) in enumerate(spans):
        anomaly[a:b] = 0.87 - 0.1 * i
        classes[a:b] = [0.1, 0.8, 0.1] if i % 2 == 0 else [0.1, 0.1, 0.8]
        category = CLASSES[1 + i % 2]
        events.append(Event(float(a), float(b), category, 0.87 - 0.1 * i, a + 0.5))
    return DetectionResult(
        name=name,
        path=path,
        edges=np.arange(T + 1, dtype=float),
        anomaly=anomaly,
        classes=classes,
        class_names=CLASSES,
        events=tuple(events),
        ground_truth=ground_truth,
    )
