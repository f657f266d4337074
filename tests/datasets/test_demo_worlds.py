"""The demo worlds: what each changes, and that none replaces a dataset of a user."""

import dataclasses

import numpy as np
import pytest

from wsvad_jax.data.tfds_builder import dataset_folder
from wsvad_jax.datasets import registry
from wsvad_jax.datasets.demo import dataset as demo
from wsvad_jax.datasets.demo import world as demo_world
from wsvad_jax.datasets.demo.recorder import PLAIN, Recorder
from wsvad_jax.datasets.demo.worlds import DEMO, WORLDS
from wsvad_jax.experiment.config import load_config
from wsvad_jax.prepare import prepare
from wsvad_jax.utils.errors import InputError

PICTURE = np.random.RandomState(0).randint(0, 256, (96, 128, 3)).astype(np.uint8)


def record(recorder: Recorder, frame: int = 0, video: str = "a") -> np.ndarray:
    return recorder.record(PICTURE, frame, 16, video, seed=3)


def test_the_demo_keeps_its_plans_and_settings():
    plans = demo.plan_videos((6, 4), DEMO.seed)
    for split in plans.values():
        for i, plan in enumerate(split):
            kind = plan.video.partition("_")[0]
            split_name = plan.video.split("_")[1]
            assert plan == demo_world.plan_video(split_name, i, kind, 0)
    # Folders that older versions built stay valid.
    assert DEMO.settings == {"seed": 0}


def test_only_abnormal_videos_of_the_shortcut_world_are_stamped():
    twin, stamp = WORLDS["demo_twin"], WORLDS["demo_stamp"]
    plans = [demo.plan_videos((9, 6), w.seed, w) for w in (twin, stamp)]
    for split in ("train", "test"):
        for plain, stamped in zip(*(p[split] for p in plans), strict=True):
            assert stamped.recorder.time_stamp == (stamped.label != "Normal")
            # Nothing else differs, so a drop comes from the stamp alone.
            assert dataclasses.replace(stamped, recorder=PLAIN) == plain


def test_every_world_changes_one_thing():
    found = {}
    for name, world in WORLDS.items():
        base = dataclasses.replace(
            DEMO, name=name, seed=world.seed, videos=world.videos
        )
        pairs = zip(
            dataclasses.asdict(world).items(),
            dataclasses.asdict(base).values(),
            strict=True,
        )
        found[name] = [key for (key, value), old in pairs if value != old]
    assert found == {
        "demo": [],
        "demo_twin": [],
        "demo_plaza": ["camera"],
        "demo_dusk": ["hours"],
        "demo_camera": ["recorder"],
        "demo_stamp": ["stamps_abnormal"],
        "demo_all_stamped": ["recorder"],
    }
    dusk = WORLDS["demo_dusk"]
    hours = {p.hour for p in demo.plan_videos((40, 1), dusk.seed, dusk)["train"]}
    assert hours == {"dusk", "night"}
    # Two worlds of one folder would share its videos.
    settings = [str(w.settings) for w in WORLDS.values()]
    assert len(set(settings)) == len(settings)


def test_a_stamp_is_a_clock_within_the_centre_crop():
    stamped = [record(Recorder(time_stamp=True), f) for f in (0, 15, 16)]
    np.testing.assert_array_equal(stamped[0], stamped[1])
    changed = (stamped[0] != stamped[2]).any(-1)
    assert 0 < changed.sum() < 200  # the last digits
    rows, columns = np.nonzero((stamped[0] != PICTURE).any(-1))
    assert rows.min() == 3 and rows.max() == 30
    assert 16 <= columns.min() and columns.max() < 112
    other = record(Recorder(time_stamp=True), video="b")
    assert (other != stamped[0]).any()


def test_a_recorder_repeats_its_noise_and_leaves_plain_pictures():
    assert record(PLAIN) is PICTURE
    noisy = Recorder(contrast=0.5, blur=1, noise=8.0, tint=(0.5, 1.0, 1.0))
    np.testing.assert_array_equal(record(noisy), record(noisy))
    assert (record(noisy) != record(noisy, frame=1)).any()
    assert record(noisy)[..., 0].mean() < 0.6 * PICTURE[..., 0].mean()
    soft = record(Recorder(blur=1)).astype(float)
    assert soft.std() < 0.6 * PICTURE.std()
    assert soft.mean() == pytest.approx(PICTURE.mean(), rel=0.02)


def test_worlds_are_built_in_and_have_the_demos_recipes():
    for name in WORLDS:
        assert registry.is_built_in(name) and registry.recipe_name(name) == "demo"
    for name in ("demo_", "demo_other", "ucf_demo", "demos"):
        assert registry.demo_world(name) is None
    config = load_config("mil_ranking:demo_stamp")
    assert config.data.name == "demo_stamp"
    assert config.clean.steps == load_config("mil_ranking:demo").clean.steps


def test_a_users_dataset_of_that_name_is_kept(dataset, own, tmp_path):
    base = tmp_path / "base"
    folder = base / dataset_folder("demo_twin") / dataset.path.name
    folder.parent.mkdir(parents=True)
    dataset.path.rename(folder)
    before = sorted(p.name for p in folder.iterdir())
    with pytest.raises(InputError, match="holds a dataset that isn't the demo world"):
        registry.resolve("demo_twin", base)
    assert sorted(p.name for p in folder.iterdir()) == before
    with pytest.raises(InputError, match="demo_twin is the name of a built-in dataset"):
        prepare(str(own.path), data_dir=str(base), rename="demo_twin")
