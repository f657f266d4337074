"""Decoding real files, and the geometry of crops."""

import gc

import av
import numpy as np
import pytest
from PIL import Image
from sample_videos import write_sound
from sample_videos import write_video as write

from wsvad_jax.extraction import video
from wsvad_jax.utils.errors import InputError


def level(picture):
    """The grey level below the bright corner."""
    return float(picture[-8:, -8:].mean()) / 4


@pytest.mark.parametrize(("frame", "chosen"), [("first", [0, 16, 32]),
                                               ("middle", [8, 24, 36])])  # fmt: skip
def test_snippets_choose_their_frame_by_index(tmp_path, frame, chosen):
    seen = video.Video(write(tmp_path / "a.mp4"))
    cut = list(video.snippets(seen, frame=frame))
    assert [s.num_frames for s in cut] == [16, 16, 8]
    assert [s.seconds for s in cut] == [0.0, 1.0, 2.0]
    found = [level(s.pictures[0]) for s in cut]
    np.testing.assert_allclose(found, chosen, atol=0.5)
    assert seen.num_frames == 40 and seen.damage == ""
    assert seen.fps == pytest.approx(16, rel=0.05)


def test_mean_takes_every_frame(tmp_path):
    path = write(tmp_path / "a.mp4", count=21)
    cut = list(video.snippets(video.Video(path), frame="mean"))
    assert [len(s.pictures) for s in cut] == [16, 5]
    found = [level(p) for s in cut for p in s.pictures]
    np.testing.assert_allclose(found, range(21), atol=0.5)


def test_a_video_of_one_frame_is_one_snippet(tmp_path):
    path = write(tmp_path / "a.mp4", count=1)
    (only,) = video.snippets(video.Video(path))
    assert only.num_frames == 1 and len(only.pictures) == 1


def test_a_variable_rate_counts_frames_and_keeps_their_times(tmp_path):
    times = np.cumsum([0.0] + [0.05, 0.4] * 17)[:34]
    path = write(tmp_path / "a.mp4", count=34, times=times)
    cut = list(video.snippets(video.Video(path), frame="first"))
    assert [s.num_frames for s in cut] == [16, 16, 2]
    np.testing.assert_allclose([s.seconds for s in cut], times[::16], atol=0.01)
    np.testing.assert_allclose(
        [level(s.pictures[0]) for s in cut], [0, 16, 32], atol=0.5
    )


@pytest.mark.parametrize(("degrees", "corner"), [(90, (1, 0)), (-90, (0, 1)),
                                                 (180, (1, 1)), (0, (0, 0))])  # fmt: skip
def test_rotation_is_applied(tmp_path, degrees, corner):
    """Counter-clockwise by the angle: the bright top left goes where it should."""
    if not hasattr(av.video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV can't write a rotation")
    path = write(tmp_path / "a.mp4", count=2, rotation=degrees)
    picture = next(video.snippets(video.Video(path), frame="first")).pictures[0]
    assert picture.shape == ((48, 64, 3) if degrees in (0, 180) else (64, 48, 3))
    bright = np.argwhere(picture[:, :, 0] > 200).mean(0) / picture.shape[:2]
    assert tuple((bright > 0.5).astype(int)) == corner


def test_a_cut_file_gives_what_is_readable(tmp_path):
    path = write(tmp_path / "a.mp4", count=60)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    seen = video.Video(path)
    cut = list(video.snippets(seen))
    assert 0 < seen.num_frames < 60
    assert len(cut) == -(-seen.num_frames // 16)
    assert "of 60 frames can be read" in seen.damage


def test_damaged_bytes_inside_are_noted_and_passed_over(tmp_path):
    path = write(tmp_path / "a.mp4", count=60)
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 60] = bytes(range(60))
    path.write_bytes(data)
    seen = video.Video(path)
    list(video.snippets(seen))
    assert seen.num_frames > 16 and seen.damage


def test_names_are_paths_and_nothing_else(tmp_path):
    path = write(tmp_path / "a 'b' <c>: ü.mp4", count=3)
    assert len(list(video.Video(path).frames())) == 3


def unreadable(tmp_path):
    text = tmp_path / "words.txt"
    text.write_text("not a video\n" * 50)
    fake = tmp_path / "fake.mp4"
    fake.write_bytes(b"not a video" * 50)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    headless = write(tmp_path / "headless.mp4")
    headless.write_bytes(headless.read_bytes()[:200])
    sound = write_sound(tmp_path / "sound.mp4")
    return {
        text: "text file", fake: "can't be read as a video", sound: "no video stream",
        empty: "can't be read as a video", headless: "headless.mp4",
        tmp_path: "is a folder", tmp_path / "none.mp4": "no such file",
    }  # fmt: skip


def test_bad_input_is_one_sentence_that_names_the_file(tmp_path):
    for path, message in unreadable(tmp_path).items():
        with pytest.raises(InputError, match=message) as e:
            list(video.Video(path).frames())
        assert str(path) in str(e.value) and "\n" not in str(e.value)


def test_the_released_crops():
    """Crop 0 is rows 16:240, columns 58:282 of 256 x 340; 5-9 mirror 0-4."""
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (256, 340, 3), np.uint8)
    crops = video.crop(picture, 224, crops=10)
    assert crops.shape == (10, 224, 224, 3)
    np.testing.assert_array_equal(crops[0], picture[16:240, 58:282])
    np.testing.assert_array_equal(crops[1], picture[:224, :224])
    np.testing.assert_array_equal(crops[2], picture[:224, 116:])
    np.testing.assert_array_equal(crops[3], picture[32:, :224])
    np.testing.assert_array_equal(crops[4], picture[32:, 116:])
    np.testing.assert_array_equal(crops[5:], crops[:5, :, ::-1])
    np.testing.assert_array_equal(video.crop(picture, 224, crops=5), crops[:5])
    np.testing.assert_array_equal(video.crop(picture, 224), crops[:1])


@pytest.mark.parametrize("size", [32, 64, 96, 336])
def test_crops_grow_with_the_tower(size):
    """The same parts of the frame, whatever the frame's aspect and tower's size."""
    y, x = np.mgrid[:96, :128]
    picture = np.stack([2 * y, 1.9 * x, 0 * x], -1).astype(np.uint8)
    crops = video.crop(picture, size, crops=5).astype(float)
    assert crops.shape == (5, size, size, 3)
    np.testing.assert_allclose(crops[0].mean((0, 1)), picture.mean((0, 1)), atol=4)
    # A crop covers 224 / 256 of the height and 224 / 340 of the width.
    span = np.ptp(crops[1], (0, 1)) / np.ptp(picture.astype(float), (0, 1)).clip(1)
    np.testing.assert_allclose(span[:2], [224 / 256, 224 / 340], atol=0.04)


@pytest.mark.parametrize("shape", [(48, 64), (256, 340), (100, 333)])
def test_stretch_equals_plain_bilinear(shape):
    """Enlarging, Pillow's bilinear has no filter and must agree within rounding."""
    picture = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    ours = video.resize_bilinear(picture, 256, 340).astype(int)
    if shape[0] <= 256 and shape[1] <= 340:
        image = Image.fromarray(picture).resize((340, 256), Image.Resampling.BILINEAR)
        assert np.abs(ours - np.asarray(image).astype(int)).max() <= 1


def test_stretch_does_not_filter_when_it_shrinks():
    """As PyTorch's interpolate without antialias, which is OpenCV's INTER_LINEAR."""
    torch = pytest.importorskip("torch")
    picture = np.random.default_rng(2).integers(0, 256, (480, 853, 3), np.uint8)
    expected = torch.nn.functional.interpolate(
        torch.tensor(picture).permute(2, 0, 1)[None].float(),
        (256, 340), mode="bilinear", align_corners=False,
    )  # fmt: skip
    expected = expected[0].permute(1, 2, 0).numpy()
    ours = video.resize_bilinear(picture, 256, 340)
    assert np.abs(ours - expected).max() <= 0.51


@pytest.mark.parametrize("shape", [(48, 64), (97, 64), (480, 853), (64, 64)])
def test_clip_preprocessing(shape):
    picture = np.random.default_rng(3).integers(0, 256, (*shape, 3), np.uint8)
    ours = video.crop(picture, 32, resize="clip")
    assert ours.shape == (1, 32, 32, 3)
    H, W = shape
    size = (int(32 * W / H), 32) if H <= W else (32, int(32 * H / W))
    image = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    top, left = round((size[1] - 32) / 2), round((size[0] - 32) / 2)
    np.testing.assert_array_equal(ours[0], image[top : top + 32, left : left + 32])


def test_unknown_choices_are_errors():
    picture = np.zeros((10, 10, 3), np.uint8)
    with pytest.raises(InputError, match="1, 5, 10, found 3"):
        video.crop(picture, 8, crops=3)
    with pytest.raises(InputError, match="stretch or clip, found 'cubic'"):
        video.crop(picture, 8, resize="cubic")
    with pytest.raises(InputError, match="requires crops=1, .* found crops=5"):
        video.crop(picture, 8, crops=5, resize="clip")
    with pytest.raises(InputError, match="first, middle, mean, found 'last'"):
        list(video.snippets(video.Video("x.mp4"), frame="last"))


def test_frames_are_freed_at_once(tmp_path):
    """Decoded pictures in reference cycles would fill the memory of a live source."""
    path = write(tmp_path / "video.mp4", 60)
    gc.collect()
    before = len(living_frames())  # of tests before
    gc.disable()
    try:
        for _ in video.Video(path).frames():
            pass
        left = len(living_frames())
    finally:
        gc.enable()
    assert left - before <= 2


def living_frames():
    return [x for x in gc.get_objects() if type(x).__name__ == "VideoFrame"]
