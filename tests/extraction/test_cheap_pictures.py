"""Frames become pictures only where they are looked at, and as before to the last bit."""

import av
import numpy as np
import pytest
from sample_videos import write_video

from wsvad_jax.clip.towers import VisionConfig
from wsvad_jax.extraction import batch_size, video
from wsvad_jax.extraction.decoding import picture


@pytest.mark.parametrize(("frame", "converted"), [("first", 3), ("middle", 3),
                                                  ("mean", 40)])  # fmt: skip
def test_frames_that_are_not_looked_at_are_not_converted(tmp_path, frame, converted):
    calls = []

    def count(decoded):
        calls.append(decoded.pts)
        return video.to_rgb(decoded)

    seen = video.Video(write_video(tmp_path / "a.mp4", 40))
    assert len(list(video.snippets(seen, frame=frame, preprocess=count))) == 3
    assert len(calls) == len(set(calls)) == converted


def plain_bilinear(pixels, height, width):
    """The whole picture in one go, rows before columns."""
    rows, below, dy = video.bilinear_taps(pixels.shape[0], height)
    columns, right, dx = video.bilinear_taps(pixels.shape[1], width)
    upper = pixels[rows].astype(np.float32)
    upper += dy[:, None, None] * (pixels[below].astype(np.float32) - upper)
    out = upper[:, columns]
    out += dx[:, None] * (upper[:, right] - out)
    return (out + 0.5).astype(np.uint8)


# Narrow and wide frames take two forms; sizes that 32 rows do not divide.
@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (60, 80), (130, 460), (90, 1000)])
@pytest.mark.parametrize("crops", [1, 5, 10])
def test_crops_are_those_of_the_whole_resized_picture(shape, crops):
    pixels = np.random.default_rng(4).integers(0, 256, (*shape, 3), np.uint8)
    plan = video.crop_plan(*shape, 42, crops=crops)
    whole = plain_bilinear(pixels, plan.height, plan.width)
    expected = [whole[y : y + 42, x : x + 42][:, ::step] for y, x, step in plan.cuts]
    np.testing.assert_array_equal(video.crop(pixels, 42, crops=crops), expected)
    np.testing.assert_array_equal(
        video.resize_bilinear(pixels, plan.height, plan.width), whole
    )


def test_one_scaler_serves_frames_of_any_size_colours_and_format():
    random, frames = np.random.default_rng(5), []
    for shape, kind, matrix in (
        ((48, 64), "yuv420p", 1), ((48, 64), "yuv420p", 5), ((32, 96), "yuv420p", 1),
        ((32, 96), "yuv444p", 5), ((48, 64), "rgb24", 2), ((48, 64), "yuv420p", 8),
        ((48, 64), "yuv420p", 5),
    ):  # fmt: skip
        rgb = random.integers(0, 256, (*shape, 3), np.uint8)
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=kind)
        if kind != "rgb24":
            frame.colorspace = matrix
        frames.append(frame)

    # Each alone has a scaler of its own in another thread.
    def alone(frame):
        picture._thread.__dict__.clear()
        return picture.to_rgb(frame)

    expected = [alone(frame) for frame in frames]
    picture._thread.__dict__.clear()
    for _ in range(2):
        for frame, wanted in zip(frames, expected, strict=True):
            np.testing.assert_array_equal(picture.to_rgb(frame), wanted)


@pytest.mark.parametrize(("cores", "large"), [(1, 4), (2, 4), (3, 6), (64, 8)])
def test_large_towers_take_few_pictures_at_once_on_few_cores(monkeypatch, cores, large):
    monkeypatch.setattr(batch_size.os, "cpu_count", lambda: cores)
    vit = VisionConfig(224, 16, 768, 3072, 12, 12, 512)
    demo = VisionConfig(96, 16, 192, 768, 3, 3, 256)
    assert batch_size.default_batch_size(vit) == large
    assert batch_size.default_batch_size(demo) == 8
