"""What a detector is called with: a path or frames, and a sentence about all else."""

import tracemalloc

import av
import numpy as np
import pytest
from scene_videos import scene
from untrained import write_model

from wsvad_jax.detection.detector import Detector
from wsvad_jax.utils.errors import InputError

FPS = 16


@pytest.fixture(scope="module")
def detectors(tiny, tmp_path_factory):
    """A model for windows and one for whole videos, by the frames that they encode."""
    root = tmp_path_factory.mktemp("models")
    models = {"mean": "dsanet", "middle": "mil_ranking"}
    return {
        frame: Detector(
            write_model(tiny, model, root / model, frame=frame), clip=str(tiny.clip)
        )
        for frame, model in models.items()
    }


@pytest.fixture(scope="module")
def frames():
    """Frames of a moving scene; the last snippet is a short one."""
    still = [scene(seed, (60, 44)) for seed in range(4)]
    return np.stack([np.roll(still[i // 23], i, 1) for i in range(4 * FPS + 5)])


@pytest.fixture(scope="module")
def lossless(frames, tmp_path_factory):
    """The same frames as a file, without loss."""
    path = tmp_path_factory.mktemp("videos") / "lossless.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("frame", ["mean", "middle"])
def test_frames_are_scored_as_those_of_a_file(detectors, frames, lossless, frame):
    detector = detectors[frame]
    rules = {"high": 1e-4, "low": 1e-4, "min_length": 0.0}
    wanted = detector(lossless, **rules)
    assert len(wanted.anomaly) == 5 and np.ptp(wanted.anomaly) > 1e-3

    for given in (frames, list(frames), iter(frames), (frame for frame in frames)):
        found = detector(given, fps=FPS, **rules)
        np.testing.assert_allclose(found.anomaly, wanted.anomaly, atol=1e-5)
        if wanted.classes is not None:
            np.testing.assert_allclose(found.classes, wanted.classes, atol=1e-5)
        np.testing.assert_allclose(found.edges, wanted.edges, atol=1e-9)
        assert found.events == wanted.events and found.events
        assert (found.name, found.path) == ("frames", None)
    assert detector(frames, fps=FPS, name="lobby").name == "lobby"


def test_frames_of_an_iterator_are_not_kept(detectors):
    count, size = 40 * FPS, (400, 300)

    def stream():
        for i in range(count):
            picture = np.full((size[1], size[0], 3), i % 256, np.uint8)
            yield picture

    detectors["middle"](stream(), fps=FPS)  # compiles
    tracemalloc.start()
    result = detectors["middle"](stream(), fps=FPS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(result.anomaly) == 40
    # A tenth of all frames.
    assert peak < 0.1 * count * size[0] * size[1] * 3


WRONG = [
    (np.ones((12, 16), np.float32), r"an array of shape \[12, 16\].* Detector.score"),
    (np.ones((2, 12, 16), np.float16), r"\[2, 12, 16\] and type float16; features in"),
    (np.ones((4, 8, 8, 3), np.float32), "convert its values to uint8, from 0 to 255"),
    (np.ones((4, 3, 8, 8), np.uint8), "move the channels to the end"),
    (np.ones((8, 8, 3), np.uint8), r"pass one frame as frames\[None\]"),
    (np.ones((4, 8, 8, 1), np.uint8), "convert its colours to RGB"),
    (np.ones((0, 8, 8, 3), np.uint8), "which is empty"),
    (None, "expected the path of a video or .*, found NoneType"),
    (7, "found int"),
    (b"a.mp4", "found bytes"),
    ({"frames": 1}, "found dict"),
    (["a.mp4"], "found the path 'a.mp4' in their place; pass one video per call"),
    ([np.ones((8, 8, 3))], r"frame 0 is an array of shape \[8, 8, 3\] and type float64"),
    ([None], "frame 0 is NoneType; expected uint8 of shape"),
    ([], "no frame was given"),
    (iter(()), "no frame was given"),
    ([np.ones((8, 8, 3), np.uint8), np.ones((8, 9, 3), np.uint8)],
     "expected frames of one size"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "words"), WRONG)
def test_what_is_neither_a_path_nor_frames_is_named(detectors, given, words):
    with pytest.raises(InputError, match=words):
        detectors["middle"](given, fps=FPS)


@pytest.mark.parametrize("fps", [None, 0, -1, float("nan"), float("inf"), "25", True])
def test_frames_need_their_rate(detectors, frames, fps):
    with pytest.raises(
        InputError, match="fps (isn't given; frames need|is .*; expected fr)"
    ):
        detectors["middle"](frames, fps=fps)


def test_a_rate_of_a_video_is_refused(detectors, frames, lossless):
    with pytest.raises(InputError, match="has times of its own; leave it out"):
        detectors["middle"](lossless, fps=25.0)
    with pytest.raises(InputError, match="frames are passed as detector"):
        detectors["middle"].score(frames)


def test_an_error_of_the_iterator_stays_its_own(detectors, frames):
    def broken():
        yield from frames[:20]
        raise ConnectionError("the camera is gone")

    with pytest.raises(ConnectionError, match="the camera is gone"):
        detectors["middle"](broken(), fps=FPS)
