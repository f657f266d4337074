"""Copies, other encodings and overlapping clips of real videos are found."""

import av
import numpy as np
import pytest

from wsvad_jax.datasets import alike
from wsvad_jax.extraction.video import Video


def cut(source, path, start=0, end=None, size=None, quality=28):
    """Writes frames start to end of a video, encoded again."""
    frames = [f.reformat(format="yuv420p") for f in Video(source).frames()][start:end]
    width, height = size or (frames[0].width, frames[0].height)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": str(quality)}
        for frame in frames:
            small = frame.reformat(width, height).to_ndarray(format="rgb24")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(small, "rgb24")))
        container.mux(stream.encode(None))
    return path


def test_hockey_clips_and_cuts_of_them(shared, tmp_path):
    clips = shared("videos/hockey")
    paths = {p.stem: p for p in sorted(clips.glob("*/*.avi"))[::4]}
    first, second = next(iter(paths)), list(paths)[-1]
    paths["small"] = cut(paths[first], tmp_path / "a.mp4", size=(240, 192))
    paths["late"] = cut(paths[first], tmp_path / "b.mp4", start=20)
    paths["rough"] = cut(paths[second], tmp_path / "c.mp4", quality=23)
    found = alike.alike_videos(paths)
    assert found == sorted(
        [tuple(sorted((first, "small", "late"))), tuple(sorted((second, "rough")))]
    )


def test_one_fixed_camera_is_no_copy(shared, tmp_path):
    street = shared("videos/RoadAccidents133_x264_270_451.mp4")
    parts = {
        "first": cut(street, tmp_path / "a.mp4", 0, 80),
        "later": cut(street, tmp_path / "b.mp4", 90, 170),
        "between": cut(street, tmp_path / "c.mp4", 50, 85, size=(200, 150)),
    }
    assert alike.alike_videos(parts) == [("between", "first")]


def test_an_unreadable_video_is_in_no_group(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    assert alike.alike_videos({"a": tmp_path / "a.mp4", "b": tmp_path / "no.mp4"}) == []


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (150, 200), (576, 720)])
def test_block_means(size):
    values = np.random.RandomState(0).randint(0, 256, size, np.uint8)
    rows = np.repeat(values, 16, 0).reshape(16, size[0], size[1]).mean(1)
    means = np.repeat(rows, 16, 1).reshape(16, 16, size[1]).mean(2)
    found = alike._block_means(alike._block_means(values).T).T
    np.testing.assert_allclose(found, means, atol=1e-3)


def test_groups_join():
    pairs = [("a", "b"), ("c", "d"), ("b", "c"), ("e", "f"), ("d", "a")]
    assert alike.groups(pairs) == [("a", "b", "c", "d"), ("e", "f")]
