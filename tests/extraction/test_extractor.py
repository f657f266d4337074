"""Features of real video files: what they equal, and what they cost."""

import dataclasses
import fractions
import shutil
import threading
import tracemalloc

import av
import jax
import numpy as np
import pytest
from PIL import Image
from sample_videos import VISION, write_sound, write_video

from wsvad_jax.clip.snapshot import load_snapshot
from wsvad_jax.clip.towers import encode_image
from wsvad_jax.extraction import video
from wsvad_jax.extraction.extractor import Extractor
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json

# Many extractors compile the same program.


@pytest.fixture(scope="module")
def snapshot(clip):
    return load_snapshot(clip)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of one video each; a test only reads them."""
    path = tmp_path_factory.mktemp("videos")
    for name, count in (("a", 40), ("b", 1), ("c", 33)):
        write_video(path / f"{name}.mp4", count)
    write_sound(path / "sound.mp4")
    return path


@pytest.fixture(scope="module")
def extractor(snapshot):
    return Extractor(snapshot, batch_size=4)


def frames(path):
    return list(video.Video(path).frames())


def torch_features(clip, pictures):
    """Features by transformers' PyTorch CLIP with its own preprocessing."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from transformers.models.clip import CLIPVisionModelWithProjection

    module = transformers.models.clip
    kind = getattr(module, "CLIPImageProcessorPil", None) or module.CLIPImageProcessor
    pixels = kind.from_pretrained(str(clip))(
        [Image.fromarray(p) for p in pictures], return_tensors="pt"
    )
    model = CLIPVisionModelWithProjection.from_pretrained(str(clip)).eval()
    with torch.no_grad():
        return model(**pixels).image_embeds.numpy()


def test_features_past_half_precision_are_no_features(snapshot, folder):
    kernel = snapshot.params["visual_projection"]["kernel"] * np.float32(1e7)
    params = snapshot.params | {"visual_projection": {"kernel": kernel}}
    large = Extractor(dataclasses.replace(snapshot, params=params), batch_size=4)
    errors: list[InputError] = []
    assert not list(large.stream([folder / "a.mp4", folder / "b.mp4"], errors=errors))
    assert [str(e).partition(":")[0] for e in errors] == [
        str(folder / "a.mp4"),
        str(folder / "b.mp4"),
    ]
    with pytest.raises(InputError, match="NaN or past float16's 65504"):
        large(folder / "b.mp4")


def test_features_equal_those_of_transformers(tmp_path, snapshot, shared):
    torch = pytest.importorskip("torch")
    assert torch
    from wsvad_jax.clip.snapshot import save_snapshot

    # PyTorch's names, since transformers 5 reads no Flax weights.
    clip = save_snapshot(
        tmp_path / "clip", snapshot.text, snapshot.vision, snapshot.params,
        weights="safetensors",
    )  # fmt: skip
    path = shared("videos/RoadAccidents133_x264_270_451.mp4")
    every = frames(path)
    chosen = [every[min(i + 8, i + (len(every) - i) // 2)]
              for i in range(0, len(every), 16)]  # fmt: skip
    pictures = [f.to_ndarray(format="rgb24") for f in chosen]
    expected = torch_features(clip, pictures)
    extractor = Extractor(load_snapshot(clip), resize="clip", batch_size=8)
    ours = extractor.images(np.concatenate([extractor.preprocess(f) for f in chosen]))
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    found = extractor(path)
    assert found.features.dtype == np.float16
    # The same, but for float16's eleven bits.
    np.testing.assert_allclose(found.features[0], expected, atol=1e-4, rtol=2**-11)


def test_one_row_a_snippet(folder, extractor):
    found = extractor(folder / "a.mp4")
    assert found.features.shape == (1, 3, VISION.projection_dim)
    assert (found.num_frames, found.damage) == (40, "")
    np.testing.assert_allclose(found.seconds, [0, 1, 2])
    assert found.duration == pytest.approx(2.5, abs=0.07)
    chosen = [frames(folder / "a.mp4")[i] for i in (8, 24, 36)]
    expected = extractor.images(
        np.concatenate([extractor.preprocess(f) for f in chosen])
    )
    np.testing.assert_allclose(found.features[0], expected, rtol=1e-3, atol=1e-4)


def test_a_video_of_one_frame(folder, extractor):
    found = extractor(folder / "b.mp4")
    assert found.features.shape[1] == found.num_frames == 1
    assert np.isfinite(found.features).all() and found.duration > 0


def test_mean_is_the_mean_of_all_frames(folder, snapshot):
    extractor = Extractor(snapshot, frame="mean", crops=5, batch_size=7)
    found = extractor(folder / "c.mp4").features
    every = np.stack([
        extractor.images(extractor.preprocess(f)) for f in frames(folder / "c.mp4")
    ])  # fmt: skip
    expected = np.stack([every[i : i + 16].mean(0) for i in (0, 16, 32)], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_crops_are_those_of_the_frame(folder, snapshot, extractor):
    ten = Extractor(snapshot, crops=10, batch_size=3)(folder / "a.mp4").features
    assert ten.shape[:2] == (10, 3)
    one = extractor(folder / "a.mp4").features
    np.testing.assert_allclose(ten[:1], one, rtol=1e-3, atol=1e-3)
    assert not np.allclose(ten[0], ten[1], atol=1e-2)


@pytest.mark.parametrize("decoders", [1, 3])
def test_many_videos_are_each_as_alone(folder, snapshot, extractor, decoders):
    stream = Extractor(snapshot, batch_size=5, decoders=decoders)
    paths = [folder / f"{name}.mp4" for name in "abcsound".partition("sound")[0]]
    paths.insert(1, folder / "sound.mp4")
    errors, ticks = [], []
    found = list(stream.stream(paths, errors=errors, tick=ticks.append))
    names = [f.path.stem for f in found]
    assert (names if decoders == 1 else sorted(names)) == ["a", "b", "c"]
    assert sum(ticks) == sum(f.num_frames for f in found) == 74
    for f in found:
        alone = extractor(f.path)
        np.testing.assert_allclose(f.features, alone.features, rtol=2e-3, atol=1e-3)
        np.testing.assert_array_equal(f.seconds, alone.seconds)
    assert len(errors) == 1 and "no video stream" in str(errors[0])


def test_an_error_ends_the_stream_and_its_threads(folder, extractor):
    before = threading.active_count()
    paths = [folder / "a.mp4", folder / "sound.mp4", folder / "c.mp4"]
    with pytest.raises(InputError, match="no video stream"):
        list(extractor.stream(paths))
    stream = extractor.stream(paths[:1] * 50)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_times_of_a_variable_rate_and_of_a_late_start(tmp_path, extractor):
    """Seconds are the container's, from its start as in a player."""
    times = 5 + np.cumsum([0.0] + [0.05, 0.4] * 17)[:34]
    found = extractor(write_video(tmp_path / "a.mkv", 34, times=times))
    np.testing.assert_allclose(found.seconds, times[::16] - 5, atol=0.01)
    assert found.duration >= times[-1] - 5


def test_times_do_not_go_back(tmp_path, extractor):
    """Two recordings put one after the other as raw bytes start again at zero."""
    one = write_video(tmp_path / "one.ts", 32).read_bytes()
    path = tmp_path / "two.ts"
    path.write_bytes(one + one)
    found = extractor(path)
    assert found.num_frames > 40
    assert (np.diff(found.seconds) >= 0).all()
    assert found.duration >= found.seconds[-1]


def test_a_turned_phone_video_is_seen_upright(tmp_path, snapshot):
    if not hasattr(av.video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV can't write a rotation")
    extractor = Extractor(snapshot, resize="clip", frame="first")
    flat = frames(write_video(tmp_path / "flat.mp4", 2))[0]
    turned = extractor(write_video(tmp_path / "turned.mp4", 2, rotation=90))
    upright = np.rot90(flat.to_ndarray(format="rgb24"))
    expected = extractor.images(video.crop(upright.copy(), 32, resize="clip"))
    np.testing.assert_allclose(turned.features[:, 0], expected, rtol=0.02, atol=0.02)


def test_a_cut_file_is_scored_as_far_as_it_goes(tmp_path, extractor):
    path = write_video(tmp_path / "a.mp4", 60)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    found = extractor(path)
    assert 0 < found.num_frames < 60 and "of 60 frames can be read" in found.damage
    assert found.features.shape[1] == -(-found.num_frames // 16)


def write_long(path, hours, every):
    """A picture each `every` seconds, as a camera of a building site takes them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fractions.Fraction(1, every))
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        for i in range(hours * 3600 // every):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, i, 0), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_eight_hours_take_no_more_memory_than_their_features(tmp_path, snapshot):
    path = write_long(tmp_path / "long.mkv", 8, 16)
    extractor = Extractor(snapshot, stride=4, batch_size=32)
    extractor(write_video(tmp_path / "short.mp4", 3))  # imports and compiles

    tracemalloc.start()
    found = extractor(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert found.features.shape[1] == 450
    assert found.duration == pytest.approx(8 * 3600, abs=17)
    # Of pictures there are six batches at most, and 14 in the video; of the rest a few
    # numbers per snippet.
    pictures = 6 * 32 * 32 * 32 * 3
    assert peak < pictures + found.features.nbytes + 450 * 400


def test_choices_that_do_not_exist(snapshot):
    for choice, message in (
        ({"crops": 2}, "1, 5, 10, found 2"),
        ({"frame": "last"}, "first, middle, mean, found 'last'"),
        ({"resize": "fit"}, "stretch or clip, found 'fit'"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"decoders": 0}, "decoders must be at least 1"),
        ({"dtype": "float16"}, "auto, float32, bfloat16, found 'float16'"),
    ):
        with pytest.raises(InputError, match=message):
            Extractor(snapshot, **choice)


def test_a_snapshot_s_own_normalisation_and_filter_count(tmp_path, clip, folder):
    """Mean, deviation, size and filter of preprocessor_config.json, as transformers."""
    copy = shutil.copytree(clip, tmp_path / "copy")
    path = copy / "preprocessor_config.json"
    own = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 40, "resample": 2}
    write_json(path, read_json(path) | own)
    snapshot = load_snapshot(copy)
    found = Extractor(snapshot, resize="clip", frame="first")(folder / "b.mp4")
    (frame,) = frames(folder / "b.mp4")
    image = Image.fromarray(frame.to_ndarray(format="rgb24"))  # 64 x 48
    image = np.asarray(image.resize((53, 40), Image.Resampling.BILINEAR))
    pixels = (image[4:36, 10:42] / 255 - 0.5) / 0.5
    encode = jax.jit(encode_image, static_argnums=1)
    wanted = encode(snapshot.params, snapshot.vision, pixels[None])
    np.testing.assert_allclose(found.features[:, 0], wanted, rtol=2e-3, atol=2e-3)
    plain = Extractor(load_snapshot(clip), resize="clip", frame="first")(
        folder / "b.mp4"
    )
    assert not np.allclose(found.features, plain.features, atol=0.02)
    # The released geometry stays, with the model's own normalisation.
    found = Extractor(snapshot, frame="first")(folder / "b.mp4")
    pixels = (video.crop(video.to_rgb(frame), 32) / 255 - 0.5) / 0.5
    wanted = encode(snapshot.params, snapshot.vision, pixels)
    np.testing.assert_allclose(found.features[:, 0], wanted, rtol=2e-3, atol=2e-3)
    write_json(path, read_json(path) | {"do_resize": False})
    with pytest.raises(
        InputError, match="preprocessor_config.json: do_resize is False"
    ):
        Extractor(load_snapshot(copy))
