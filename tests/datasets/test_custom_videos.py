"""A folder with videos and no features: what is extracted, when, and what is refused."""

import csv
import json
import os
import re
import shutil

import numpy as np
import pytest
from sample_videos import write_clip, write_sound, write_video

from wsvad_jax import prepare
from wsvad_jax.clip.snapshot import load_snapshot
from wsvad_jax.data import sidecar
from wsvad_jax.data.dataset import open_dataset
from wsvad_jax.datasets.custom_sidecars import EXTRACTION_KEY
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json

ROWS = {
    "train": [("day/n0", "Normal"), ("n1.mp4", "Normal"), ("car", "car_crash"),
              ("both", "car_crash+StreetFight")],
    "test": [("tn", "Normal"), ("tc", "car_crash")],
}  # fmt: skip
FRAMES = {"day/n0": 40, "n1": 33, "car": 16, "both": 50, "tn": 17, "tc": 70}


class Videos:
    """A folder of videos that a test can bend."""

    def __init__(self, root):
        self.path, self.clip, self.data = root / "own", root / "clip", root / "data"
        for video, frames in FRAMES.items():
            path = self.video(video)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, frames)
        for split, rows in ROWS.items():
            self.write_list(split, rows)
        truth = [{"video": "tc.mp4", "label": "car_crash", "segments": [[20, 70]]}]
        (self.path / "test_segments.json").write_text(json.dumps(truth))
        write_clip(self.clip)

    def video(self, name):
        return self.path / "videos" / f"{name}.mp4"

    def feature(self, name):
        return self.path / "features" / f"{name}.npy"

    def write_list(self, split, rows):
        with open(self.path / f"{split}.csv", "w", newline="") as f:
            csv.writer(f).writerows([("video", "label"), *rows])

    def prepare(self, *more):
        assert prepare.main([str(self.path), "--data_dir", str(self.data), *more]) == 0
        return open_dataset(self.data / "own" / "1.0.0")

    def extract(self, *more):
        return self.prepare("--clip", str(self.clip), *more)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder whose features are extracted; not to be bent."""
    videos = Videos(tmp_path_factory.mktemp("videos"))
    return videos, videos.extract()


@pytest.fixture
def videos(made, tmp_path):
    """A copy of that folder, with its features."""
    original, _ = made
    shutil.copytree(original.path, tmp_path / "own")
    copy = object.__new__(Videos)
    copy.path, copy.clip, copy.data = tmp_path / "own", original.clip, tmp_path / "data"
    return copy


def test_from_videos_to_a_dataset(made):
    videos, dataset = made
    card = dataset.card
    assert card.class_names == ("Normal", "StreetFight", "car_crash")
    assert card.prompts == (("normal",), ("street fight",), ("car crash",))
    assert card.clip == str(videos.clip)
    assert (
        dataset.protocol.encoder
        == f"clip@{load_snapshot(videos.clip).weights_hash[:12]}"
    )
    assert (dataset.protocol.frame, dataset.protocol.crops) == ("middle", 1)
    train, test = dataset.split("train"), dataset.split("test")
    assert [e.video for e in train.entries] == ["day/n0", "n1", "car", "both"]
    assert [e.label for e in train.entries] == [(0,), (0,), (2,), (1, 2)]
    for entry in (*train.entries, *test.entries):
        assert entry.num_frames == FRAMES[entry.video]
        assert entry.num_snippets == -(-entry.num_frames // 16)
    assert [e.segments for e in test.entries] == [(), ((20, 70, 2),)]
    stored = np.load(videos.feature("day/n0"))
    np.testing.assert_array_equal(train[0].features, stored)


def test_only_new_and_changed_videos_are_extracted(videos, capsys):
    before = {v: videos.feature(v).stat().st_mtime_ns for v in FRAMES}
    videos.feature("tn").unlink()
    write_video(videos.video("car"), 24)
    write_video(videos.video("new"), 20)
    videos.write_list("train", [*ROWS["train"], ("new", "Normal")])
    dataset = videos.prepare()  # --clip is the one that is noted
    assert "2 are missing, 1 are of other videos" in capsys.readouterr().out
    after = {v: videos.feature(v).stat().st_mtime_ns for v in FRAMES}
    assert {v for v in FRAMES if before[v] != after[v]} == {"tn", "car"}
    frames = {e.video: e.num_frames for e in dataset.split("train").entries}
    assert frames["car"] == 24 and frames["new"] == 20
    videos.prepare()
    assert "missing" not in capsys.readouterr().out


def test_what_a_killed_run_left_is_made_again(videos):
    sidecar.sidecar_path(videos.feature("n1")).unlink()
    videos.feature("car").write_bytes(b"half")
    videos.prepare()
    assert np.load(videos.feature("car")).shape == (1, 1, 16)
    assert sidecar.read(videos.feature("n1").with_suffix(".json")).num_frames == 33


def test_five_crops(videos):
    shutil.rmtree(videos.path / "features")
    dataset = videos.extract("--crops", "5", "--frame", "first")
    assert dataset.split("train")[0].features.shape == (5, 3, 16)
    assert (dataset.protocol.crops, dataset.protocol.frame) == (5, "first")
    videos.feature("tn").unlink()
    assert videos.prepare().split("test")[0].features.shape[0] == 5  # as the others


def test_bad_videos_are_named_and_may_be_left_out(videos, capsys):
    shutil.rmtree(videos.path / "features")
    videos.video("car").write_text("no video")
    write_sound(videos.video("n1"))
    with pytest.raises(InputError, match="n1.mp4: has no video stream"):
        videos.extract()
    assert videos.feature("both").exists()  # the others' work is not lost
    with pytest.raises(InputError, match="no normal videos to train with"):
        videos.write_list("train", ROWS["train"][1:3])
        videos.extract("--skip-bad")
    videos.write_list("train", ROWS["train"])
    dataset = videos.extract("--skip-bad")
    assert [e.video for e in dataset.split("train").entries] == ["day/n0", "both"]
    report = (dataset.path / "report.txt").read_text()
    assert "left out: 2 problems" in report
    assert "car.mp4: can't be read as a video" in report and "n1.mp4" in report


def test_a_truncated_video_is_used_and_remarked(videos):
    whole = write_video(videos.video("both"), 60, (320, 240)).read_bytes()
    videos.video("both").write_bytes(whole[: len(whole) * 3 // 4])
    dataset = videos.prepare()
    report = (dataset.path / "report.txt").read_text()
    assert "remark: video both is damaged: " in report
    assert 0 < dataset.split("train").entries[3].num_frames < 60


def test_truth_may_end_in_the_last_snippet_of_the_video(videos):
    truth = [{"video": "tc", "segments": [[20, 80]]}]
    (videos.path / "test_segments.json").write_text(json.dumps(truth))
    dataset = videos.prepare()
    assert dataset.split("test").entries[1].segments == ((20, 70, 2),)
    assert (
        "event past its 70 frames; clipped" in (dataset.path / "report.txt").read_text()
    )
    truth[0]["segments"] = [[20, 81]]
    (videos.path / "test_segments.json").write_text(json.dumps(truth))
    with pytest.raises(InputError, match="ends at frame 81, but"):
        videos.prepare()


def no_clip(v):
    shutil.rmtree(v.path / "features")


def no_videos(v):
    shutil.rmtree(v.path / "videos")
    return "--clip", str(v.clip)


def missing_video(v):
    v.write_list("train", [*ROWS["train"], ("boht", "Normal")])


def two_files(v):
    shutil.copy(v.video("car"), v.video("car").with_suffix(".mkv"))


def other_way(v):
    return ("--crops", "10")


def other_model(v):
    shutil.copytree(v.clip, v.path.parent / "other")
    write_clip(v.path.parent / "other", seed=1)
    return "--clip", str(v.path.parent / "other")


def changed_model(v):
    write_clip(v.path.parent / "other", seed=1)
    protocol = json.loads((v.path / "features" / "protocol.json").read_text())
    protocol["clip"] = str(v.path.parent / "other")
    (v.path / "features" / "protocol.json").write_text(json.dumps(protocol))
    v.feature("car").unlink()


def foreign(v):
    no_clip(v)
    v.feature("car").parent.mkdir()
    np.save(v.feature("car"), np.ones((1, 16), np.float32))
    return "--clip", str(v.clip)


def mixed(v):
    path = v.feature("car").with_suffix(".json")
    path.write_text(path.read_text().replace('"middle"', '"first"'))


def wrong_length(v):
    path = v.feature("car").with_suffix(".json")
    path.write_text(path.read_text().replace('"num_frames": 16', '"num_frames": 17'))


def bad_crops(v):
    no_clip(v)
    return "--clip", str(v.clip), "--crops", "3"


def no_such_model(v):
    no_clip(v)
    (v.path.parent / "empty").mkdir()
    return "--clip", str(v.path.parent / "empty")


def bad_label(v):
    no_clip(v)
    v.write_list("test", [("tn", "Normal"), ("tc", "Crash")])
    return "--clip", str(v.clip)


def half_a_label(v):
    v.write_list("test", [("tn", "Normal"), ("tc", "car_crash+")])


def named_twice(v):
    v.write_list("train", [*ROWS["train"], ("car.mp4", "car_crash")])


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (no_clip, "own: 6 of its videos have no features yet; pass --clip NAME"),
        (no_videos, "videos: no such folder; --clip, --crops"),
        (missing_video, "boht is neither in .* nor in .*did you mean both."),
        (two_files, "car.mp4 as well|car.mkv as well"),
        (other_way, "features: its features were made by clip@.*10 crops.*requested"),
        (other_model, "features: its features were made by clip@.* but other@"),
        (changed_model, "other: not the weights that the features .* were made with"),
        (foreign, "car.npy: these features have no sidecar"),
        (mixed, "car.json: features made by .*frame first.* of n0.mp4 by .*middle"),
        (wrong_length, "car.json: 17 frames are not the 1 snippets of car.npy"),
        (bad_crops, "crops must be one of 1, 5, 10, found 3"),
        (no_such_model, "empty"),
        (bad_label, "video tc has the label 'Crash' that no class has"),
        (half_a_label, "the label 'car_crash\\+' has nothing on one side of a '\\+'"),
        (named_twice, "video car is already in"),
    ],
)
def test_bad_folder(videos, bend, message):
    arguments = bend(videos) or ()
    with pytest.raises(InputError, match=message) as error:
        videos.prepare(*arguments)
    assert "\n" not in str(error.value)
    assert not videos.data.exists()


def test_a_dataset_has_the_protocol_of_its_sidecars(videos):
    path = videos.path / "features" / "protocol.json"
    noted = json.loads(path.read_text())
    path.unlink()
    made = videos.prepare().protocol
    assert (made.encoder, made.frame) == (noted["encoder"], noted["frame"])
    assert made.encoder_settings == noted["encoder_settings"]
    path.write_text(json.dumps(noted | {"frame": "mean"}))
    with pytest.raises(
        InputError, match=r"protocol.json beside .* says \(frame middle"
    ):
        videos.prepare()


def test_new_videos_are_encoded_in_the_precision_of_the_others(videos, capsys):
    for video in FRAMES:
        path = sidecar.sidecar_path(videos.feature(video))
        write_json(path, read_json(path) | {"dtype": "bfloat16"})
    path = videos.path / "features" / "protocol.json"
    write_json(path, read_json(path) | {"dtype": "bfloat16"})
    write_video(videos.video("car"), 24)
    assert videos.prepare().protocol.dtype == "bfloat16"

    path = sidecar.sidecar_path(videos.feature("car"))
    assert sidecar.read(path).dtype == "bfloat16"

    with pytest.raises(InputError, match="float32 instead of bfloat16"):
        videos.prepare("--dtype", "float32")

    # One that says otherwise can be used with the others, which is said.
    write_json(path, read_json(path) | {"dtype": "float32"})
    assert videos.prepare().protocol.dtype == "unknown"
    assert "made in bfloat16 and float32" in capsys.readouterr().out

    # To extend them, one precision would have to be chosen.
    check = [str(videos.path), "--data_dir", str(videos.data), "--check"]
    assert prepare.main(check) == 0
    assert "features of further videos can't be added" in capsys.readouterr().out
    videos.feature("n1").unlink()
    with pytest.raises(InputError, match="(bfloat16|float32) instead of"):
        videos.prepare()
    assert prepare.main(check) == 2
    text = capsys.readouterr().out
    assert "[features] features were made in bfloat16 and float32, so 1 video" in text


def test_another_precision_in_protocol_json_is_a_mixture(videos, capsys):
    path = videos.path / "features" / "protocol.json"
    write_json(path, read_json(path) | {"dtype": "bfloat16"})
    check = [str(videos.path), "--data_dir", str(videos.data), "--check"]
    assert prepare.main(check) == 0
    assert "made in bfloat16 and float32" in capsys.readouterr().out
    videos.feature("n1").unlink()
    with pytest.raises(InputError, match="dtype bfloat16 there and float32 now"):
        videos.prepare()
    assert prepare.main(check) == 2
    assert "so 1 video can't be extracted like the others" in capsys.readouterr().out


@pytest.mark.parametrize(
    "stated", [{}, {EXTRACTION_KEY: None}, {EXTRACTION_KEY: "abcd"}]
)
def test_a_protocol_of_other_origin_is_not_extended(videos, capsys, stated):
    write_json(videos.path / "features" / "protocol.json", stated)
    check = [str(videos.path), "--data_dir", str(videos.data), "--check"]
    assert prepare.main(check) == 0  # nothing is to be extracted

    videos.feature("n1").unlink()
    wanted = "protocol.json: (has no weights_hash|its weights_hash is abcd), "
    with pytest.raises(InputError, match=wanted):
        videos.prepare()
    assert prepare.main(check) == 2
    assert len(re.findall(wanted, text := capsys.readouterr().out)) == 1
    assert "1 video can't be extracted like them (n1)" in text


def test_a_changed_video_beside_features_of_unknown_origin(videos, capsys):
    (videos.path / "features" / "protocol.json").unlink()
    (videos.path / "features" / "n1.json").unlink()
    write_video(videos.video("car"), 77)
    with pytest.raises(InputError, match="n1.npy: these features have no sidecar"):
        videos.prepare()
    check = [str(videos.path), "--data_dir", str(videos.data), "--check"]
    assert prepare.main(check) == 2
    assert "1 video to be extracted (car), but other" in capsys.readouterr().out


def test_a_bad_label_is_found_before_extraction(videos):
    with pytest.raises(InputError, match="no class has"):
        videos.prepare(*bad_label(videos))
    assert not (videos.path / "features").exists()


def test_public_datasets_bring_their_features(tmp_path):
    with pytest.raises(InputError, match="--clip, .* belong to a folder of your own"):
        prepare.main(["ucf", "--clip", "x", "--data_dir", str(tmp_path)])


def test_linked_videos(videos, tmp_path):
    """Videos may lie on another disk."""
    os.rename(videos.path / "videos", tmp_path / "disk")
    (videos.path / "videos").symlink_to(tmp_path / "disk")
    videos.feature("day/n0").unlink()
    assert len(videos.prepare().split("train")) == 4


def test_the_name_is_checked_before_hours_of_extraction(made, tmp_path, capsys):
    other = tmp_path / "elsewhere" / "own"
    first, _ = made
    shutil.copytree(first.path, other, ignore=shutil.ignore_patterns("features"))
    here = [str(other), "--data_dir", str(first.data)]
    assert prepare.main([*here, "--check"]) == 2
    text = capsys.readouterr().out
    assert "[name]" in text and "already holds the dataset made from" in text
    with pytest.raises(InputError, match="pass --name NAME, or another --data_dir"):
        prepare.main([*here, "--clip", str(first.clip)])
    assert not (other / "features").exists()
    assert prepare.main([*here, "--check", "--name", "yard"]) == 0
    printed = capsys.readouterr().out.splitlines()[-1].split()
    assert printed[-6:-2] == ["--data_dir", str(first.data), "--name", "yard"]
