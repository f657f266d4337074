"""Search over videos, features, results of detect and prepared datasets."""

import os
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from sample_videos import write_clip
from scene_videos import scene, write_scenes

from wsvad_jax import extract
from wsvad_jax.data.records import FeatureProtocol, Record
from wsvad_jax.data.tfds_builder import write_dataset
from wsvad_jax.detection.result import DetectionResult, write_events_json
from wsvad_jax.extraction.extractor import Extractor
from wsvad_jax.retrieval.search import VideoSearch
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import cache_dir, read_json, write_json

SCENES = {"a": range(6), "night/b": range(10, 14), "c": range(20, 23)}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three videos of 6, 4 and 3 scenes; tests only read them."""
    path = tmp_path_factory.mktemp("scenes") / "videos"
    (path / "night").mkdir(parents=True)
    for name, seeds in SCENES.items():
        write_scenes(path / f"{name}.mp4", seeds)
    return path


@pytest.fixture(scope="module")
def features(videos, clip):
    """The features of the videos, as `extract` writes them beside their folder."""
    path = videos.parent / "features"
    arguments = [videos, "--clip", clip, "--output", path, "--resize", "clip"]
    assert extract.main([str(a) for a in arguments]) == 0
    return path


@pytest.fixture(scope="module")
def search(features):
    return VideoSearch([features])


@pytest.mark.parametrize("name, seed", [("a", 2), ("night/b", 13), ("c", 20)])
def test_a_picture_finds_its_scene_first(search, videos, tmp_path, name, seed):
    Image.fromarray(scene(seed, (320, 240))).save(tmp_path / "frame.jpg", quality=60)
    best = search.by_picture(tmp_path / "frame.jpg", top=3)[0]
    second = SCENES[name].index(seed)
    assert (best.rank, best.video, best.path) == (1, name, videos / f"{name}.mp4")
    # The moment may include a scene that looks alike; its best snippet is this scene.
    assert best.peak == pytest.approx(second + 0.5, abs=0.01)
    assert best.start < best.peak < best.end and best.score > 0.9


def test_videos_and_their_features_give_the_same_moments(search, videos, clip):
    found = VideoSearch([videos], clip)
    assert found("two cars") == search("two cars")
    assert [m.score for m in found("a car", top=4)] == sorted(
        (m.score for m in found("a car", top=4)), reverse=True
    )
    assert "random weights" in (found.clip_note(words=True) or "")


def test_words_are_encoded_as_prompts(search):
    from wsvad_jax.clip import prompts, towers
    from wsvad_jax.retrieval.queries import encode_words

    snapshot = search.snapshot
    encode = jax.jit(towers.encode_text, static_argnums=1)
    for words in ("a car", "a car on fire beside two people"):
        tokens, eos, _ = prompts.tokenize([[words]], snapshot.path, snapshot.text)
        wanted = encode(snapshot.params, snapshot.text, tokens, eos)[0]
        found = encode_words(snapshot, f" {words} ")
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_videos_are_extracted_once(videos, clip, monkeypatch):
    first = VideoSearch([videos], clip)("a fire")

    def stream(*arguments, **options):
        raise AssertionError("a video is extracted again")

    monkeypatch.setattr(Extractor, "stream", stream)
    assert VideoSearch([videos], str(clip))("a fire") == first
    alone = VideoSearch([videos / "c.mp4"], clip)("a fire")
    assert {m.video for m in alone} == {"c"}
    assert not list((cache_dir() / "search").rglob("*.mp4"))


def test_unreadable_videos_are_left_out(videos, clip, tmp_path):
    shutil.copy(videos / "c.mp4", tmp_path / "good.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    found = VideoSearch([tmp_path], clip)
    assert [v.name for v in found.library.videos] == ["good"]
    (error,) = found.library.errors
    assert "bad.mp4" in str(error)
    with pytest.raises(InputError, match=r"bad\.mp4"):
        VideoSearch([tmp_path / "bad.mp4"], clip)


def test_features_refuse_another_clip(features, clip, tmp_path):
    other = write_clip(tmp_path / "other", seed=1)
    with pytest.raises(
        InputError, match="pass the CLIP model that made them as --clip"
    ):
        VideoSearch([features], other)
    assert VideoSearch([features], clip)("x")  # of the same weights


@pytest.mark.parametrize(
    "protocol, words",
    [
        ({"encoder": "r3d18"}, "features of r3d18, which names no CLIP model"),
        ({}, "don't say which CLIP model made them; pass it as --clip"),
        ({"clip": "/gone/clip"}, "CLIP model /gone/clip, which is not here"),
    ],
)
def test_features_that_name_no_clip_here(tmp_path, protocol, words):
    np.save(tmp_path / "a.npy", np.ones((4, 16), np.float16))
    write_json(tmp_path / "protocol.json", protocol)
    with pytest.raises(InputError, match=words):
        VideoSearch([tmp_path])


def test_features_of_no_clip_or_another_width(tmp_path, clip):
    np.save(tmp_path / "a.npy", np.ones((4, 16), np.float16))
    write_json(tmp_path / "protocol.json", {"encoder": "r3d18"})
    with pytest.raises(InputError, match="instead of r3d18"):
        VideoSearch([tmp_path], clip)

    # Unknown features are taken for the model's, and this is said.
    write_json(tmp_path / "protocol.json", {"crops": 1})
    found = VideoSearch([tmp_path], clip)
    (moment,) = found("a car")
    assert "don't say what made them" in found.remarks[0]
    assert "times assume 30 frames per second" in found.remarks[1]
    assert (moment.start, moment.end) == pytest.approx((0, 64 / 30))
    assert VideoSearch([tmp_path], clip, fps=10.0)("a car")[0].end == pytest.approx(6.4)

    np.save(tmp_path / "a.npy", np.ones((4, 18), np.float16))
    with pytest.raises(InputError, match="features 18 wide, but .* makes them 16 wide"):
        VideoSearch([tmp_path], clip)


def test_features_of_two_encoders(features, tmp_path):
    shutil.copytree(features, tmp_path / "both")
    side = tmp_path / "both" / "c.json"
    changed = {"encoder": "other@0123456789ab", "encoder_settings": {}}
    write_json(side, read_json(side) | changed)
    with pytest.raises(InputError, match="c.npy: another CLIP model made it than a"):
        VideoSearch([tmp_path / "both"])


def test_features_of_unknown_origin_hide_no_other_encoder(features, clip, tmp_path):
    """The first video says nothing, the second is of the CLIP, the third is not."""
    for name in ("1", "2", "3"):
        (tmp_path / name).mkdir()
        shutil.copy(features / "a.npy", tmp_path / name / f"v{name}.npy")
    stated = read_json(features / "protocol.json")
    write_json(tmp_path / "2" / "protocol.json", stated)
    other = {"encoder": "other@0123456789ab", "encoder_settings": {}}
    write_json(tmp_path / "3" / "protocol.json", stated | other)

    folders = [tmp_path / name for name in ("1", "2", "3")]
    with pytest.raises(InputError, match="v3.npy: another CLIP model made it than v2"):
        VideoSearch(folders, clip)
    with pytest.raises(InputError, match="v3: .* but the features are of other@"):
        VideoSearch([folders[0], folders[2]], clip)

    # The CLIP model is that of the features that name one.
    found = VideoSearch(folders[:2])
    assert found.remarks[0].startswith("the features of 1 video don't say what made")


def test_a_changed_video_is_not_shown(features, tmp_path):
    shutil.copytree(features, tmp_path / "features")
    write_scenes(tmp_path / "a.mp4", [7, 8, 9])
    found = VideoSearch([tmp_path / "features"])("x", top=20, per_video=20)
    assert all(m.path is None for m in found)


def test_results_of_detect(videos, clip, tmp_path):
    def result(name, path):
        edges, scores = np.arange(4.0), np.zeros(3, np.float32)
        return DetectionResult(name, path, edges, scores, None, ("Normal",), ())

    there = [result(name, videos / f"{name}.mp4") for name in SCENES]
    gone = result("gone", tmp_path / "gone.mp4")
    write_events_json(tmp_path / "events.json", [*there, gone], {})
    found = VideoSearch([tmp_path], clip)
    assert found("a car") == VideoSearch([videos], clip)("a car")
    assert "gone.mp4: the video is not there any more" in str(found.library.errors[0])
    with pytest.raises(InputError, match="searched with a CLIP model; pass one"):
        VideoSearch([tmp_path])

    # Zero-shot detection names its CLIP model; two models leave the choice open.
    write_events_json(tmp_path / "events.json", there[:1], {"clip": str(clip)})
    assert VideoSearch([tmp_path])("a car")[0].video == "a"
    (tmp_path / "more").mkdir()
    write_events_json(tmp_path / "more" / "events.json", there[2:], {"clip": "x/y"})
    with pytest.raises(
        InputError, match=r"of several models \(.*, x/y\); pass one CLIP"
    ):
        VideoSearch([tmp_path, tmp_path / "more"])

    # Results of features have no videos.
    write_events_json(tmp_path / "events.json", [result("a", None)], {})
    with pytest.raises(InputError, match="scores, not features, and it has no video"):
        VideoSearch([tmp_path], clip)
    (tmp_path / "events.json").write_text('{"videos": 3}')
    with pytest.raises(InputError, match="expected the events.json that detect writes"):
        VideoSearch([tmp_path], clip)


def test_a_prepared_dataset(features, clip, videos, tmp_path):
    from wsvad_jax.data import cards

    card = cards.infer_card(["Normal", "Fire"], name="scenes")
    card = type(card).from_json(card.to_json() | {"clip": str(clip)}, "card")
    protocol = read_json(features / "protocol.json")
    fields = {k: protocol[k] for k in FeatureProtocol.__dataclass_fields__}
    splits = {
        split: [
            Record(
                name, x := np.load(features / f"{name}.npy"), (label,), 16 * x.shape[1]
            )
            for name in names
        ]
        for split, names, label in (("train", ("a", "c"), 0), ("test", ("night/b",), 1))
    }
    path = write_dataset(
        "scenes",
        card,
        FeatureProtocol(**fields),
        splits,
        tmp_path / "data",
        source=str(videos.parent),
    )
    found = VideoSearch([path])
    wanted = VideoSearch([features]).by_picture(scene(12))[0]
    best = found.by_picture(scene(12))[0]
    assert (best.video, best.path) == ("night/b", videos / "night/b.mp4")
    # The frame rate is that of the video.
    assert best.peak == pytest.approx(2.5)
    assert best.score == pytest.approx(wanted.score, abs=1e-6)
    assert VideoSearch(["scenes"], data_dir=tmp_path / "data")("x") == found("x")
    with pytest.raises(InputError, match="prepared dataset is searched by itself"):
        VideoSearch([path, features])


def test_videos_and_features_are_searched_apart(features, videos, clip):
    with pytest.raises(InputError, match="search them apart"):
        VideoSearch([features / "a.npy", videos / "c.mp4"], clip)


def test_hockey_clips_are_found_by_a_changed_frame(shared, own_cache, tmp_path):
    from wsvad_jax.detection.report.key_frames import key_frames
    from wsvad_jax.experiment.build import random_snapshot

    folder = shared("videos/hockey")
    clips = [
        p for kind in ("fight", "no_fight") for p in sorted((folder / kind).iterdir())
    ]
    (tmp_path / "clips").mkdir()
    for path in clips[::5]:
        os.symlink(path, tmp_path / "clips" / path.name)
    found = VideoSearch([tmp_path / "clips"], random_snapshot(256))

    firsts = 0
    chosen = found.library.videos
    for video in chosen:
        # Frame 8 of 25 per second is encoded. It is made smaller and brighter.
        assert video.path is not None
        (jpeg,) = key_frames(video.path, [0.33], width=200)
        (tmp_path / "frame.jpg").write_bytes(jpeg or b"")
        with Image.open(tmp_path / "frame.jpg") as frame:
            brighter = frame.point(lambda level: min(int(1.05 * level) + 4, 255))
        brighter.save(tmp_path / "frame.jpg", quality=50)
        firsts += found.by_picture(tmp_path / "frame.jpg")[0].video == video.name
    assert len(chosen) >= 8
    assert firsts == len(chosen)
