"""A custom folder: what is read, and one sentence for each bad input."""

import json
import re

import folder_faults
import numpy as np
import pytest

from wsvad_jax.data.feature_files import ErrorCollector
from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.datasets import custom
from wsvad_jax.datasets.validation import validate
from wsvad_jax.prepare import prepare
from wsvad_jax.utils.errors import InputError


def load(own, **options):
    return custom.load(own.path, **options)


def test_without_card(own):
    found = load(own)
    assert found.name == "own" and found.card.class_names == ("Normal", "Fight", "Fire")
    train, test = list(found.splits["train"]), list(found.splits["test"])
    assert [r.video for r in train] == ["n0", "n1", "f0", "f1", "m0"]
    assert [r.label for r in train] == [(0,), (0,), (2,), (2,), (1, 2)]
    assert {r.features.shape for r in train} == {(1, 4, 6)}
    assert {r.features.dtype for r in train} == {np.dtype(np.float16)}
    assert [r.num_frames for r in test] == [64] * 3
    assert test[1].segments == ((16, 32, 2), (40, 64, 2))
    assert test[2].segments == ((0, 9, 1), (20, 64, 2))
    assert found.remarks == []
    assert found.protocol == FeatureProtocol(crops=1)


@pytest.mark.parametrize(
    "spelling", ["Fi\u200bre", "\ufeffFire", "Fire\u2060", "F\u00adire\u200e"]
)
def test_labels_are_compared_as_they_look(own, spelling):
    own.rows["train"][2] = ("f0", spelling)
    own.write_list("train", own.rows["train"])
    own.truth[2]["segments"][1][2] = spelling
    own.write_truth(own.truth)
    found = load(own)
    assert found.card.class_names == ("Normal", "Fight", "Fire")
    assert [r.label for r in found.splits["train"]][2] == (2,)


def test_with_card_protocol_and_crops(own):
    own.write_card(stride=8, test_crop=1)
    for video in [v for rows in own.rows.values() for v, _ in rows]:
        own.feature(video).unlink()
        for crop in range(3):
            own.write_features(f"{video}__{crop}", np.full((8, 6), crop, np.float64))
    made = {"encoder": "tower", "stride": 8, "frame": "middle", "clip": "hub/name"}
    (own.path / "features" / "protocol.json").write_text(json.dumps(made))
    found = load(own)
    assert found.name == "mine" and found.card.class_names == (
        "Normal",
        "Fire",
        "Fight",
    )
    assert (found.card.stride, found.card.clip) == (8, "hub/name")
    assert found.protocol == FeatureProtocol("tower", 8, 3, "middle")
    record = next(iter(found.splits["train"]))
    assert record.num_frames == 64
    assert record.features[:, 0, 0].tolist() == [0, 1, 2]


def test_one_file_of_all_crops(own):
    for video in [v for rows in own.rows.values() for v, _ in rows]:
        features = np.arange(3)[:, None, None] * np.ones((3, 4, 6), np.float16)
        own.write_features(video, features)
    found = load(own)
    record = next(iter(found.splits["train"]))
    assert record.features.shape == (3, 4, 6) and found.protocol.crops == 3
    assert record.features[:, 0, 0].tolist() == [0, 1, 2]


def test_names_may_have_extensions_and_lists_semicolons(own):
    rows = [(f"./{v}.MP4", label) for v, label in own.rows["train"]]
    text = "video;label\n" + "".join(f"{v};{label}\n" for v, label in rows)
    (own.path / "train.csv").write_text(text, encoding="utf-8-sig")
    own.write_truth([{**t, "video": f"{t['video']}.avi"} for t in own.truth])
    own.feature("f0").rename(own.feature("f0.mp4"))
    found = load(own)
    assert [r.video for r in found.splits["train"]] == ["n0", "n1", "f0", "f1", "m0"]
    assert list(found.splits["test"])[1].segments == ((16, 32, 2), (40, 64, 2))


def test_truth_is_optional(own):
    (own.path / "test_segments.json").unlink()
    assert [r.segments for r in load(own).splits["test"]] == [(), (), ()]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_float_types(own, dtype):
    values = np.linspace(-3, 3, 24).reshape(4, 6)
    own.write_features("n0", values.astype(dtype))
    record = next(iter(load(own).splits["train"]))
    np.testing.assert_array_equal(record.features[0], values.astype(np.float16))


FEATURE_FILES = [
    (folder_faults.missing, "f0.npy: the feature file is missing"),
    (folder_faults.empty, "f0.npy: the file is empty"),
    (folder_faults.no_npy, "f0.npy: damaged or not a .npy file"),
    (folder_faults.truncated, "f0.npy: the file is truncated \\(93 bytes of 96\\)"),
    (folder_faults.cut_header, "f0.npy: damaged or not a .npy file"),
    (
        folder_faults.wrong_width,
        "f0.npy: features 7 wide; expected 6, as 7 of 8 videos have",
    ),
    (
        folder_faults.integers,
        "f0.npy: holds int64 values; expected float16, float32 or float64",
    ),
    (folder_faults.objects, "f0.npy: holds object values; expected float16"),
    (folder_faults.complex_values, "f0.npy: holds complex64 values; expected float16"),
    (
        folder_faults.one_axis,
        "f0.npy: features of shape \\[6\\]; expected \\[snippets, width\\]",
    ),
    (folder_faults.no_snippets, "f0.npy: features of shape \\[0, 6\\]; expected"),
    (
        folder_faults.crops_of_two_lengths,
        "f0__1.npy: features of shape \\[5, 6\\], those of f0__0",
    ),
    (
        folder_faults.more_crops,
        "f0__0.npy: features of 2 crops; expected 1, as 4 of 5 videos",
    ),
    (folder_faults.crop_and_whole, "f0.npy: there is f0__0.npy as well"),
    (folder_faults.first_crop_missing, "f0.npy: the feature file is missing"),
    (
        folder_faults.with_value(np.nan),
        "f0.npy: 1 values cannot be used, the first at \\[2, 3\\] is nan",
    ),
    (folder_faults.with_value(np.inf), "is inf \\(not finite\\)"),
    (folder_faults.with_value(1e6), "past float16's 65504"),
]


@pytest.mark.parametrize(("bend", "message"), FEATURE_FILES)
def test_bad_feature_file(own, bend, message):
    bend(own)
    with pytest.raises(InputError, match=message) as error:
        for split in load(own).splits.values():
            list(split)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("bend", "message"), FEATURE_FILES)
def test_bad_feature_file_is_skipped_and_listed(own, bend, message):
    bend(own)
    problems = ErrorCollector(skip=True)
    splits = custom.load(own.path, problems).splits
    assert [r.video for r in splits["train"]] == ["n0", "n1", "f1", "m0"]
    assert len(list(splits["test"])) == 3
    assert len(problems.errors) == 1
    assert problems.errors[0].args and "f0" in str(problems.errors[0])


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (
            folder_faults.unknown_label,
            "train.csv:7: video x has the label 'Riot' that no class has",
        ),
        (
            folder_faults.label_of_test_only,
            "test.csv:4: video tm has the label 'Riot' that no class",
        ),
        (
            folder_faults.normal_and_not,
            "train.csv:3: video f0 is labelled Normal\\+Fire, normal and",
        ),
        (
            folder_faults.no_header,
            "train.csv: expected the header video,label .* columns are n0, Normal; pass",
        ),
        (folder_faults.no_rows, "train.csv: the list names no video"),
        (
            folder_faults.empty_list,
            "test.csv: expected the header video,label in line 1, but it is",
        ),
        (
            folder_faults.long_row,
            "train.csv:2: expected video,label, found 'n0,Normal,more'",
        ),
        (folder_faults.no_label, "train.csv:2: expected video,label"),
        (folder_faults.binary_list, "train.csv: expected a text file"),
        (folder_faults.twice, "train.csv:7: video f0 is already in .*train.csv:4"),
        (folder_faults.in_both, "test.csv:5: video f0 is already in .*train.csv:4"),
        (folder_faults.no_normal, "train.csv: no normal videos to train with"),
        (folder_faults.no_normal_without_card, "expected videos labelled 'Normal'"),
        (folder_faults.no_abnormal, "train.csv: no abnormal videos to train with"),
        (folder_faults.out_of_the_folder, "is a path out of the folder"),
        (folder_faults.no_list, "test.csv: no such file"),
        (
            folder_faults.no_features,
            "features: no such folder; add one .npy file per video, or the videos",
        ),
        (
            folder_faults.only_videos,
            "features: no such folder; python -m wsvad_jax.prepare .* --clip openai",
        ),
        (
            folder_faults.past_the_end,
            "video tf has an event that ends at frame 65, .* 64 frames",
        ),
        (
            folder_faults.reversed_segment,
            "video tf has the segment \\[32, 16\\]; expected 0 <= start",
        ),
        (
            folder_faults.unknown_video,
            "test_segments.json: video zz is not in the test list",
        ),
        (folder_faults.truth_of_training_video, "video f0 is not in the test list"),
        (
            folder_faults.no_truth_of_abnormal,
            "video tm is labelled Fight\\+Fire, but no truth file",
        ),
        (
            folder_faults.other_label,
            "video tf is labelled Fight, but Fire in the test list",
        ),
        (
            folder_faults.several_labels_no_class,
            "video tm has the labels .* needs its class",
        ),
        (folder_faults.broken_truth, "test_segments.json: expected a JSON file"),
        (folder_faults.broken_card, "card.json: expected a JSON file"),
        (
            folder_faults.card_without_normal,
            "card.json: the normal class 'Calm' is not among",
        ),
        (
            folder_faults.crop_out_of_reach,
            "card.json: test_crop 5, but the test features have 1",
        ),
        (
            folder_faults.other_stride,
            "card.json: stride 16, but .*protocol.json says 8",
        ),
        (
            folder_faults.bad_protocol,
            "protocol.json: stride must be a whole number, found '8'",
        ),
    ],
)
def test_bad_folder(own, bend, message):
    bend(own)
    with pytest.raises(InputError, match=message) as error:
        load(own)
    assert "\n" not in str(error.value)


def test_a_video_in_both_lists_is_skipped_in_the_test(own):
    folder_faults.in_both(own)
    problems = ErrorCollector(skip=True)
    found = custom.load(own.path, problems)
    assert [len(s) for s in found.splits.values()] == [5, 3]
    assert "already in" in str(problems.errors[0])


def test_slack_is_remarked(own):
    truth = [own.truth[0], {"video": "tf", "segments": [[0, 80]]}, own.truth[2]]
    own.write_truth(truth)
    with pytest.raises(InputError, match="--slack 1"):
        load(own)
    found = load(own, slack=1)
    assert list(found.splits["test"])[1].segments == ((0, 64, 2),)
    assert len(found.remarks) == 1 and "video tf" in found.remarks[0]


@pytest.mark.parametrize(
    ("made", "shape", "words"),
    [
        ({"stride": 0}, (4, 6), "stride must be a whole number of at least 1, found 0"),
        (
            {"stride": -16},
            (4, 6),
            "stride must be a whole number of at least 1, found -16",
        ),
        ({"stride": True}, (4, 6), "stride must be a whole number, found True"),
        ({"crops": 0}, (4, 6), "crops must be a whole number of at least 1, found 0"),
        ({"crops": 10}, (4, 6), "crops is 10, but .*n0.npy has 1; correct crops"),
        ({"crops": 1}, (5, 4, 6), "crops is 1, but .*n0.npy has 5"),
        ({"axes": "TD"}, (5, 4, 6), r"n0.npy: features of shape \[5, 4, 6\], but .*TD"),
    ],
)
def test_a_protocol_that_no_features_have(own, made, shape, words):
    for video in [v for rows in own.rows.values() for v, _ in rows]:
        own.write_features(video, np.ones(shape, np.float32))
    (own.path / "features" / "protocol.json").write_text(json.dumps(made))
    with pytest.raises(InputError, match=words):
        load(own)
    found = validate.validate(own.path)
    assert not found.usable and re.search(words, " ".join(found.text().split()))
    with pytest.raises(InputError, match=words):
        prepare(str(own.path), data_dir=str(own.path / "data"))
    assert not (own.path / "data").exists()


def test_whole_numbers_of_a_protocol_may_be_floats(own):
    path = own.path / "features" / "protocol.json"
    path.write_text('{"stride": 16.0, "crops": 1.0}')
    found = load(own).protocol
    assert (found.stride, found.crops) == (16, 1) and type(found.stride) is int


@pytest.mark.parametrize("ending", [".npz", ".pt", ".npy.gz"])
def test_features_in_another_format_are_named(own, ending):
    own.feature("f0").rename(own.path / "features" / f"f0{ending}")
    words = f"f0{ending} is there; write its array with np.save"
    with pytest.raises(InputError, match=words):
        load(own)
    with pytest.raises(InputError, match=words):
        prepare(str(own.path), data_dir=str(own.path / "data"))
    assert words in " ".join(validate.validate(own.path).text().split())
