"""The demo world: what it shows, that it is made once, and made whole again."""

import shutil

import jax
import numpy as np
import pytest

from wsvad_jax.clip.snapshot import load_snapshot
from wsvad_jax.data.tfds_builder import open_dataset
from wsvad_jax.datasets.demo import dataset as demo
from wsvad_jax.datasets.demo import world as demo_world
from wsvad_jax.datasets.demo.events import EVENTS
from wsvad_jax.extraction.extractor import Extractor
from wsvad_jax.extraction.video import Video, to_rgb
from wsvad_jax.utils.errors import InputError

VIDEOS = (2, 2)


SECONDS = demo_world.SECONDS


@pytest.fixture(scope="module", autouse=True)
def short_videos():
    """Videos are a few seconds long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_world, "SECONDS", (8, 12))
        yield


@pytest.fixture(scope="module")
def base(short_videos, tmp_path_factory):
    """A small world, prepared."""
    base = tmp_path_factory.mktemp("data")
    demo.prepare_demo(base, VIDEOS)
    return base


def times(world):
    return {p: p.stat().st_mtime_ns for p in sorted(world.rglob("*")) if p.is_file()}


def test_plans_are_what_the_readme_says(monkeypatch):
    monkeypatch.setattr(demo_world, "SECONDS", SECONDS)
    plans = demo.plan_videos(demo.VIDEOS, demo.SEED)
    assert [len(plans[s]) for s in ("train", "test")] == [90, 45]
    names = [p.video for split in plans.values() for p in split]
    assert len(set(names)) == len(names)
    for split in plans.values():
        kinds = {e.category for p in split for e in p.events}
        assert kinds == set(EVENTS)
        assert any(len(p.events) == 2 for p in split)
        for plan in split:
            assert 20 <= plan.frames / demo_world.FPS < 61
            stops = [0]
            for event in plan.events:
                seconds = (event.stop - event.start) / demo_world.FPS
                assert 3 <= seconds <= 12.1
                assert stops[-1] <= event.start < event.stop <= plan.frames
                stops.append(event.stop)


def test_same_seed_same_frames_and_other_videos_differ():
    first, second = (
        demo_world.plan_video("test", i, "Explosion", seed=0) for i in (0, 1)
    )
    frames = [next(demo_world.render(p, 0)) for p in (first, first, second)]
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[0] != frames[2]).mean() > 0.2


@pytest.mark.parametrize("category", sorted(EVENTS))
def test_events_are_seen_at_their_times_only(category, monkeypatch):
    """The same plan with and without the event differs from its start on."""
    monkeypatch.setattr(demo_world, "SECONDS", SECONDS)
    plan = demo_world.plan_video("test", 3, category, seed=0)
    event = plan.events[0]
    scene = demo_world.Scene(plan, 0)
    normal = demo_world.Scene(demo_world.dataclasses.replace(plan, events=()), 0)
    middle = (event.start + event.stop) // 2

    def difference(frame):
        scene.rng, normal.rng = (np.random.default_rng(1) for _ in range(2))
        a, b = scene.draw(frame).astype(int), normal.draw(frame).astype(int)
        return float((np.abs(a - b).max(-1) > 25).mean())

    lead = 4 * demo_world.FPS  # a car that will crash is seen coming
    assert difference(max(event.start - lead, 0)) < 0.002 or event.start < lead
    assert difference(middle) > 0.005


def test_videos_are_real_h264_and_features_come_from_them(base):
    world = base / "demo" / "world"
    dataset = open_dataset(base / "demo" / "1.0.0")
    extractor = Extractor(
        load_snapshot(world / "clip"), frame=demo.FRAME, resize="clip"
    )
    for record in dataset.split("test"):
        video = Video(world / "videos" / f"{record.video}.mp4")
        frames = [to_rgb(f[1] if isinstance(f, tuple) else f) for f in video.frames()]
        assert frames[0].shape == (demo_world.HEIGHT, demo_world.WIDTH, 3)
        assert record.num_snippets == -(-len(frames) // 16)
        again = extractor(world / "videos" / f"{record.video}.mp4")
        np.testing.assert_allclose(
            again.features.astype(np.float32),
            record.features.astype(np.float32),
            atol=0.02,
        )
    assert dataset.card.class_names[0] == "Normal"
    assert (dataset.path / dataset.card.clip).is_dir()


def test_reuse_makes_nothing(base):
    world = base / "demo" / "world"
    before = times(world)
    demo.prepare_demo(base, VIDEOS)
    assert times(world) == before


def test_a_damaged_file_is_made_again_and_no_other(base):
    world = base / "demo" / "world"
    before = times(world)
    video = next((world / "videos").glob("*.mp4"))
    good = video.read_bytes()
    video.write_bytes(good[: len(good) // 2])
    features = next(
        p for p in (world / "features").glob("*.npy") if p.stem != video.stem
    )
    features.unlink()
    demo.prepare_demo(base, VIDEOS)
    assert video.read_bytes() == good
    assert features.is_file()
    kept = [p for p in before if p.suffix == ".mp4" and p != video]
    assert all(p.stat().st_mtime_ns == before[p] for p in kept)
    assert len(open_dataset(base / "demo" / "1.0.0").split("train")) == VIDEOS[0]


def test_a_damaged_dataset_is_written_again(base):
    index = base / "demo" / "1.0.0" / "index.json"
    index.write_text("{")
    path = demo.prepare_demo(base, VIDEOS)
    assert len(open_dataset(path).split("test")) == VIDEOS[1]


def test_an_interrupted_rendering_goes_on(tmp_path):
    plans = demo.plan_videos(VIDEOS, demo.SEED)
    world = tmp_path / "world"
    first = plans["train"][0]
    made = {"version": demo.VERSION, "videos": list(VIDEOS), "seed": demo.SEED}
    (world / "videos").mkdir(parents=True)
    demo.write_json(world / demo.BUILD_SETTINGS, made)
    demo_world.write_video(first, world / "videos" / f"{first.video}.mp4", demo.SEED)
    stamp = (world / "videos" / f"{first.video}.mp4").stat().st_mtime_ns
    assert demo.build_world(world, VIDEOS)
    assert (world / "videos" / f"{first.video}.mp4").stat().st_mtime_ns == stamp
    assert not demo.build_world(world, VIDEOS)


# The asset's hash changes only on purpose: with it, `demo.VERSION`, the model card and all
# results of the demo.
CLIP_HASH = "3ed3183e8d31fff9"


def test_the_packages_clip_is_the_one_that_results_were_made_with(base):
    asset = load_snapshot(demo.PACKAGED_FOLDER)
    assert asset.weights_hash == CLIP_HASH
    copy = load_snapshot(base / "demo" / "world" / "clip")
    assert copy.weights_hash == CLIP_HASH
    assert "rendered streets only" in copy.training_note


def test_the_packages_clip_is_small():
    asset = load_snapshot(demo.PACKAGED_FOLDER)
    parameters = sum(x.size for x in jax.tree.leaves(asset.params))
    assert parameters <= 1.81e6
    size = sum(p.stat().st_size for p in demo.PACKAGED_FOLDER.iterdir())
    assert size <= 4e6


def test_another_clip_in_the_folder_is_replaced(base):
    world = base / "demo" / "world"
    weights = world / "clip" / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-4] + bytes(4))
    videos = {p: t for p, t in times(world).items() if p.suffix == ".mp4"}
    demo.prepare_demo(base, VIDEOS)
    assert weights.read_bytes() == good
    assert {p: times(world)[p] for p in videos} == videos


def test_another_clip_makes_the_features_and_stays(base, clip, tmp_path):
    own = tmp_path / "data"
    shutil.copytree(base, own)
    world = own / "demo" / "world"
    path = world / "features" / "Normal_test_000.npy"
    before, videos = np.load(path), times(world / "videos")

    # Its features replace the package's; the videos stay.
    dataset = open_dataset(demo.prepare_demo(own, VIDEOS, clip))
    assert np.load(path).shape[1] != before.shape[1]
    assert times(world / "videos") == videos
    used = load_snapshot(dataset.path / dataset.card.clip).weights_hash
    assert used == load_snapshot(clip).weights_hash

    # A training asks for no CLIP; it takes the demo as it is.
    after = times(world)
    demo.prepare_demo(own, VIDEOS)
    assert times(world) == after

    # Nobody but the user has the model, so damage is not mended with another one.
    (world / "clip" / "config.json").unlink()
    with pytest.raises(InputError, match="clip/config.json is missing or differs"):
        demo.prepare_demo(own, VIDEOS)
    demo.prepare_demo(own, VIDEOS, clip)
    assert load_snapshot(world / "clip").weights_hash == used


@pytest.mark.parametrize("moment", ["_copy_snapshot", "_extract_features"])
def test_an_interrupted_change_of_clip_leaves_no_features_of_two(
    base, clip, tmp_path, monkeypatch, moment
):
    own = tmp_path / "data"
    shutil.copytree(base, own)
    features = own / "demo" / "world" / "features"

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo, moment, interrupt)
        with pytest.raises(KeyboardInterrupt):
            demo.prepare_demo(own, VIDEOS, clip)

    # Without the user's CLIP, no other one takes its place.
    if moment == "_copy_snapshot":
        with pytest.raises(InputError, match="prepare demo --clip DIR"):
            demo.prepare_demo(own, VIDEOS)

    demo.prepare_demo(own, VIDEOS, clip)
    width = load_snapshot(clip).vision.projection_dim
    assert {np.load(p).shape[1] for p in features.glob("*.npy")} == {width}


def test_a_new_version_of_the_demo_keeps_the_users_clip(
    base, clip, tmp_path, monkeypatch, capsys
):
    own = tmp_path / "data"
    shutil.copytree(base, own)
    rendered = []

    def copy_rendered(plans, directory, _):
        (directory / "videos").mkdir(exist_ok=True)
        for plan in plans:
            name = f"videos/{plan.video}.mp4"
            shutil.copy(base / "demo" / "world" / name, directory / name)
            rendered.append(plan.video)

    monkeypatch.setattr(demo, "_render_videos", copy_rendered)
    world = own / "demo" / "world"
    demo.prepare_demo(own, VIDEOS, clip)
    manifest = demo.read_json(world / demo.MANIFEST)
    demo.write_json(world / demo.MANIFEST, {**manifest, "version": demo.VERSION - 1})
    (world / "old.csv").write_text("of the old version")

    assert not rendered
    assert "another demo world" not in capsys.readouterr().err
    dataset = open_dataset(demo.prepare_demo(own, VIDEOS))
    said = f"of another demo world (version {demo.VERSION - 1}, now {demo.VERSION});"
    assert said in capsys.readouterr().err
    assert dataset.width == load_snapshot(clip).vision.projection_dim
    assert not (world / "old.csv").exists()
    assert len(set(rendered)) == sum(VIDEOS)
