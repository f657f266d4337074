"""`prepare --check`: what it says of good and bad folders, and that it writes nothing."""

import json
import shlex
import shutil

import folder_faults
import numpy as np
import pytest
from sample_videos import write_video

from wsvad_jax import prepare
from wsvad_jax.datasets.validation import rules, validate


def content(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


def told(own, capsys, code):
    """Runs the program; returns what it says, having written nothing."""
    before = content(own.path)
    assert prepare.main([str(own.path), "--check"]) == code
    assert content(own.path) == before
    return capsys.readouterr().out


def test_a_good_folder(own, capsys):
    for i, (video, _) in enumerate(v for rows in own.rows.values() for v in rows):
        own.write_features(video, np.full((4, 6), i, np.float32))
    text = told(own, capsys, 0)
    table = [line.split() for line in text.splitlines()]
    assert ["Normal", "2", "1", "normal"] in table
    assert ["Fire", "3", "2", "fire"] in table  # one of them has two labels
    assert ["videos", "5", "3"] in table
    assert "64 frames" in text and "problem" not in text
    assert f"Usable. Next:\n  python -m wsvad_jax.prepare {own.path}\n" in text
    assert "class Fight has 1 training video;" in text


def not_finite(own):
    own.write_features("f0", np.full((4, 6), np.nan, np.float32))


def other_crops(own):
    own.write_features("f0", np.ones((2, 4, 6), np.float32))


def same_in_both(own):
    own.write_features("f0", np.full((4, 6), 0.5, np.float32))
    shutil.copy(own.feature("f0"), own.feature("tf"))


def two_labels(own):
    own.write_features("f0", np.full((4, 6), 0.5, np.float32))
    shutil.copy(own.feature("f0"), own.feature("n0"))


def bad_header(own):
    own.write_list("train", own.rows["train"], header=("file", "class"))


def unknown_class(own):
    own.write_list("test", [*own.rows["test"], ("f9", "Riot")])


def outside(own):
    own.write_truth([own.truth[0], {"video": "tf", "segments": [[0, 99]]}])


def bad_card(own):
    own.write_card(stride="x")


def far_crop(own):
    own.write_card(test_crop=3)


@pytest.mark.parametrize(
    ("bend", "messages"),
    [
        (folder_faults.missing, ["[files] train.csv:4: video f0 is not in features; correct its"]),
        (folder_faults.no_npy, ["[features] features/f0.npy: damaged or not a .npy file"]),
        (not_finite, ["[features] features/f0.npy: 24 values cannot be used"]),
        (folder_faults.wrong_width, ["[features] features/f0.npy: features 7 wide; expected 6"]),
        (other_crops, ["[features] features/f0.npy: features of 2 crops; expected 1"]),
        (same_in_both, ["[leakage] the same content is in both", "f0 (train), tf (te"]),
        (two_labels, ["[leakage] the same content is labelled Fire and Normal: n0"]),
        (bad_header, ["[lists] train.csv: expected the header video,label"]),
        (folder_faults.no_list, ["test_segments.json: video tn is not in the test list"]),
        (unknown_class, ["[labels] test.csv:5: video f9 has the label 'Riot'"]),
        (folder_faults.no_normal, ["[balance] train.csv has no normal videos; expected both"]),
        (folder_faults.twice, ["[lists] train.csv:7: video f0 is already in train.csv:4"]),
        (outside, ["video tf has an event that ends at frame 99", "video tm is labell"]),
        (folder_faults.broken_truth, ["[truth] test_segments.json: expected a JSON file"]),
        (bad_card, ["[labels] card.json: stride must be a whole number"]),
        (far_crop, ["[features] card.json: test_crop 3, but the test features have 1"]),
    ],
)  # fmt: skip
def test_problems(own, capsys, bend, messages):
    for i, (video, _) in enumerate(v for rows in own.rows.values() for v in rows):
        own.write_features(video, np.full((4, 6), i, np.float32))
    bend(own)
    text = told(own, capsys, 2)
    for message in messages:
        assert message in text
    assert "Not usable yet" in text and "Traceback" not in text


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float16", "float32 or bfloat16"),
        ("auto", "float32 or bfloat16"),
        (5, "a text"),
    ],
)
def test_a_precision_that_does_not_exist(own, capsys, dtype, expected):
    """Once, although the axes of each array are looked up in the file."""
    for i, (video, _) in enumerate(v for rows in own.rows.values() for v in rows):
        own.write_features(video, np.full((5, 4, 6), i, np.float32))
    path = own.path / "features" / "protocol.json"
    path.write_text(json.dumps({"dtype": dtype}))
    text = told(own, capsys, 2)
    assert "1 problem:\n" in text
    message = f"features/protocol.json: dtype must be {expected}, found {dtype!r}\n"
    assert message in text


def test_many_problems_are_shortened(own, capsys):
    rows = [*own.rows["train"], *((f"x{i}", "Fire") for i in range(40))]
    own.write_list("train", rows)
    text = told(own, capsys, 2)
    assert "[files] ... and 34 more like these" in text
    assert text.count("is not in features") == 6


def test_remarks(own, capsys):
    for i, (video, _) in enumerate(v for rows in own.rows.values() for v in rows):
        own.write_features(video, np.full((4, 6), i, np.float32))
    own.write_features("n0", np.zeros((5000, 6), np.float32))
    own.write_features("n1", np.zeros((90, 6), np.float32))
    own.write_features("f1", np.full((3, 6), 9, np.float32))
    own.write_features("spare", np.zeros((4, 6), np.float32))
    own.write_list("train", [*own.rows["train"], ("spare2", "Fires")])
    own.write_features("spare2", np.full((4, 6), 11, np.float32))
    (own.path / "test_segments.json").unlink()
    text = told(own, capsys, 0)
    for part in (
        "[files] 1 video in no list, so not used: spare",
        "'Fire' and 'Fires' look alike",
        "class Fires has no test video, so it cannot be measured",
        "1 video shorter than 4 snippets of 16 frames",
        "1 video longer than 4096 snippets of 16 frames",
        "a model may learn the length instead of the event",
        "there is no test_segments.json",
    ):
        assert part in text


def test_videos_that_are_to_be_extracted(tmp_path, capsys):
    folder = tmp_path / "own"
    (folder / "videos").mkdir(parents=True)
    for i, name in enumerate(("n", "f", "tn", "tf")):
        write_video(folder / "videos" / f"{name}.mp4", 80 + i)
    shutil.copy(folder / "videos" / "f.mp4", folder / "videos" / "copy.mp4")
    (folder / "train.csv").write_text("video,label\nn,Normal\nf,Fire\n")
    (folder / "test.csv").write_text("video,label\ntn,Normal\ntf,Fire\n")
    truth = [{"video": "tf", "segments": [[0, 40]]}]
    (folder / "test_segments.json").write_text(json.dumps(truth))
    before = content(folder)
    assert prepare.main([str(folder), "--check"]) == 0
    text = capsys.readouterr().out
    assert "Next, which extracts 4 videos" in text and "--clip NAME_OR_FOLDER" in text
    assert ["train", "0:05.0", "0:05.0", "0:05.0", "0:10.0"] in [
        line.split() for line in text.splitlines()
    ]
    (folder / "test.csv").write_text("video,label\ntn,Normal\ntf,Fire\ncopy,Fire\n")
    (folder / "videos" / "n.mp4").write_text("no video")
    truth = [{"video": "tf", "segments": [[0, 400]]}]
    (folder / "test_segments.json").write_text(json.dumps(truth))
    assert prepare.main([str(folder), "--check"]) == 2
    text = capsys.readouterr().out
    assert "[videos] videos/n.mp4: can't be read as a video" in text
    assert "f (train), copy (test)" in text
    assert "event that ends at frame 400" in text
    assert "video copy is labelled Fire, but no truth file has it" in text
    assert content(folder).keys() == before.keys()


def test_an_estimated_length_is_no_problem(tmp_path, capsys):
    """A recording in two parts: its container knows of the first one's length."""
    (tmp_path / "videos").mkdir()
    for count, name in zip((40, 41, 42), ("n", "f", "tn"), strict=True):
        write_video(tmp_path / "videos" / f"{name}.mp4", count)
    part = write_video(tmp_path / "part.ts", 40)
    (tmp_path / "videos" / "tf.ts").write_bytes(part.read_bytes() * 2)
    (tmp_path / "train.csv").write_text("video,label\nn,Normal\nf,Fire\n")
    (tmp_path / "test.csv").write_text("video,label\ntn,Normal\ntf,Fire\n")
    truth = [{"video": "tf", "segments": [[60, 80]], "unit": "frames"}]
    (tmp_path / "test_segments.json").write_text(json.dumps(truth))
    assert prepare.main([str(tmp_path), "--check"]) == 0
    text = capsys.readouterr().out
    assert "not checked before extraction: tf" in text and "[truth] video" not in text


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("Fight", "Fights", True),
        ("Fight", "fight", True),
        ("car_crash", "CarCrash", True),
        ("RoadAccidents", "RoadAccident", True),
        ("Burglary", "Burglery", True),
        ("Fight", "Fighting", True),
        ("B1", "B2", False),
        ("camera_10", "camera_11", False),
        ("Abuse", "Arson", False),
        ("Stealing", "Shooting", False),
        ("Normal", "Abnormal", False),
        ("Shoplifting", "Shooting", False),
    ],
)
def test_labels_that_look_alike(a, b, expected):
    assert rules.look_alike(a, b) is expected


def test_the_public_labels_do_not_look_alike(shared):
    names = validate.read_list(shared("data/ucf_r3d18") / "train.csv")
    labels = sorted({c for row in names for c in row.labels})
    assert not [
        (a, b) for a in labels for b in labels if a < b and rules.look_alike(a, b)
    ]


def test_the_command_goes_with_what_was_looked_at(own, tmp_path, capsys, monkeypatch):
    for i, (video, _) in enumerate(v for rows in own.rows.values() for v in rows):
        own.write_features(video, np.full((4, 8), i, np.float32))
    (own.path / "features").rename(tmp_path / "the features")
    monkeypatch.chdir(tmp_path)
    flags = ["--features", "the features", "--data_dir", "data", "--name", "yard"]
    assert prepare.main([str(own.path), "--check", *flags]) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert command[4:] == [
        *("--features", str(tmp_path / "the features")),
        *("--data_dir", str(tmp_path / "data"), "--name", "yard"),
    ]
    monkeypatch.chdir("/")
    assert prepare.main(command[3:]) == 0
    assert (tmp_path / "data" / "yard").is_dir()


def test_what_training_does_otherwise_is_remarked(own, capsys):
    for i, (video, _) in enumerate(v for rows in own.rows.values() for v in rows):
        own.write_features(video, np.full((4, 6), i, np.float32))
    text = told(own, capsys, 0)
    assert (
        "[training] the recipe's batches have 32 samples, half of them normal" in text
    )
    assert (
        "with 2 normal and 3 abnormal training videos, training uses batches of 4"
        in text
    )
    assert "8 heads of DSANet don't divide features 6 wide, so prepare prints" in text
