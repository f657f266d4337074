"""Which feature files are a video's: its own, its crops', or two that are one too many."""

import json

import numpy as np
import pytest

from wsvad_jax.data import sidecar
from wsvad_jax.datasets import custom
from wsvad_jax.datasets.validation import validate
from wsvad_jax.detection import input_ground_truth, inputs
from wsvad_jax.utils.errors import InputError


def write(root, *names, T=4):
    root.mkdir(exist_ok=True)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / f"{name}.npy", np.ones((T, 6), np.float32))


def found(root):
    """What detection finds: names, and the number of files of each."""
    return {source.name: len(source.files) for source in inputs.find_inputs([root])}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cam__1", "cam__2"], {"cam__1": 1, "cam__2": 1}),
        (["cam__0", "cam__1"], {"cam": 2}),
        (["cam__0"], {"cam": 1}),
        (["cam__01", "cam__02"], {"cam__01": 1, "cam__02": 1}),
        (["cam__00", "cam__01"], {"cam__00": 1, "cam__01": 1}),
        (["a/cam__0", "a/cam__1", "b/cam__1"], {"a/cam": 2, "b/cam__1": 1}),
        (["cam", "cam__1"], {"cam": 1, "cam__1": 1}),
        (["cam__1__0", "cam__1__1", "cam__2__0"], {"cam__1": 2, "cam__2": 1}),
        ([f"cam__{i}" for i in range(12)], {"cam": 12}),
        (["cam__x", "__3", "cam_1"], {"cam__x": 1, "__3": 1, "cam_1": 1}),
    ],
)
def test_crops_begin_at_0(tmp_path, names, expected):
    write(tmp_path, *names)
    assert found(tmp_path) == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cam__0", "cam__2"], "cam__2.npy: there is no cam__1.npy, so this is crop 2"),
        (["cam", "cam__0"], "cam.npy: there is cam__0.npy as well, and both are feat"),
        (["cam__0", "cam"], "cam.npy: there is cam__0.npy as well, and both are feat"),
    ],
)
def test_detection_refuses_what_may_be_a_crop_or_a_video(tmp_path, names, message):
    write(tmp_path, *names)
    with pytest.raises(InputError, match=message):
        found(tmp_path)


def test_sidecars_tell_videos_from_crops(tmp_path):
    write(tmp_path, "cam__0", "cam__1")
    (tmp_path / "cam.json").write_text("{}")
    assert found(tmp_path) == {"cam": 2}
    for i in range(2):
        (tmp_path / f"cam__{i}.json").write_text("{}")
    assert found(tmp_path) == {"cam__0": 1, "cam__1": 1}


def test_extraction_s_layout_tells_videos_from_crops(tmp_path):
    write(tmp_path, "cam__0", "cam__1")
    (tmp_path / "protocol.json").write_text('{"layout": "one"}')
    assert found(tmp_path) == {"cam__0": 1, "cam__1": 1}
    (tmp_path / "protocol.json").write_text('{"layout": "crops"}')
    (tmp_path / "cam__0.json").write_text("{}")  # of another video, cam__0
    assert found(tmp_path) == {"cam": 2}


def test_crops_of_two_shapes_may_be_videos(tmp_path):
    write(tmp_path, "cam__0")
    write(tmp_path, "cam__1", T=5)
    (source,) = inputs.find_inputs([tmp_path])
    with pytest.raises(InputError, match="rename the files if they are videos of"):
        inputs.read_features(source, 30.0)


def test_a_video_s_sidecar_is_not_that_of_a_namesake(tmp_path):
    write(tmp_path, "cam", "cam__1")
    (tmp_path / "cam.json").write_text("{}")
    assert sidecar.sidecar_path(tmp_path / "cam__1.npy") == tmp_path / "cam__1.json"


def relist(own, old: str, *names: str):
    """Gives a listed video other names, with the same label."""
    for split, rows in own.rows.items():
        label = dict(rows).get(old)
        if label:
            kept = [row for row in rows if row[0] != old]
            own.write_list(split, [*kept, *((name, label) for name in names)])


def loaded(own):
    return {v.video: v for v in custom.load(own.path).splits["train"].videos}


def test_a_list_says_which_files_are_videos(own):
    relist(own, "f0", "cam__0", "cam__1")
    write(own.path / "features", "cam__0", "cam__1")
    assert {"cam__0", "cam__1"} < loaded(own).keys()
    looked = validate.validate(own.path)
    assert not looked.problems.keys() - {"leakage"}  # equal arrays
    assert "1 video in no list, so not used: f0" in looked.text()
    write(own.path / "features", "cam")
    relist(own, "f0", "cam__0", "cam")
    assert loaded(own)["cam"].paths == (own.feature("cam"),)
    assert "not used: cam__1, f0" in validate.validate(own.path).text()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cam__1", "cam__2"], "cam__1.npy is there, but it is no crop of cam"),
        (["cam__0", "cam__2"], "there is no cam__1.npy, so this is crop 2 of cam"),
        (["cam", "cam.mp4"], "cam.mp4.npy: there is cam.npy as well"),
        (["cam.avi", "cam.mp4"], "cam.avi.npy: there is cam.mp4.npy as well"),
        (["cam__0", "cam.mp4__0"], "cam.mp4__0.npy: there is cam__0.npy as well"),
        (["cam", "cam.mp4__0"], "cam.npy: there is cam.mp4__0.npy as well"),
    ],
)
def test_files_of_a_listed_video_that_are_too_many_or_too_few(own, names, message):
    relist(own, "f0", "cam")
    write(own.path / "features", *names)
    with pytest.raises(InputError, match=message):
        custom.load(own.path)
    found = validate.validate(own.path)
    assert not found.usable and "cam" in found.text()


def test_crops_with_the_video_s_extension(own):
    relist(own, "f0", "cam")
    for video in [v for rows in own.rows.values() for v, _ in rows]:
        np.save(own.feature(video), np.ones((2, 4, 6), np.float32))
    write(own.path / "features", "cam.mp4__0", "cam.mp4__1")
    assert [p.name for p in loaded(own)["cam"].paths] == [
        "cam.mp4__0.npy", "cam.mp4__1.npy"
    ]  # fmt: skip


def test_entries_may_name_the_feature_file(own):
    rows = [(f"{v}.npy", label) for v, label in own.rows["train"]]
    own.write_list("train", rows)
    own.write_truth([{**t, "video": f"{t['video']}.npy"} for t in own.truth])
    found = custom.load(own.path)
    assert [v.video for v in found.splits["train"].videos] == [
        "n0",
        "n1",
        "f0",
        "f1",
        "m0",
    ]
    assert found.splits["test"].videos[1].segments == ((16, 32, 2), (40, 64, 2))
    assert not validate.validate(own.path).problems.keys() - {"leakage"}  # equal arrays
    own.write_list("train", [*rows, ("n0", "Normal")])
    with pytest.raises(InputError, match="video n0 is already in"):
        custom.load(own.path)


def test_truth_of_two_videos_of_one_file_name(tmp_path):
    write(tmp_path / "f", "day/a", "night/a")
    (tmp_path / "t.json").write_text(
        json.dumps([{"video": "a", "segments": [[16, 60]]}])
    )
    truth = custom.read_ground_truth(tmp_path / "t.json")
    with pytest.raises(InputError, match="events of a may be those of day/a or of nig"):
        input_ground_truth.check_ground_truth(
            inputs.find_inputs([tmp_path / "f"]), truth, 16, 30.0
        )
