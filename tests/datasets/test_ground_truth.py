"""Truth files to events: the real ones, and every way they can be wrong."""

import json

import numpy as np
import pytest

from wsvad_jax.data import cards
from wsvad_jax.datasets import ground_truth
from wsvad_jax.datasets.ground_truth import GroundTruth
from wsvad_jax.datasets.ground_truth_alignment import align_ground_truth
from wsvad_jax.utils.errors import InputError


def test_real_ucf(shared):
    truth = ground_truth.read_ucf(shared("annotations/ucf_temporal_annotation.txt"))
    listed = json.loads(shared("annotations/ucf_test_segments.json").read_text())
    assert len(truth) == 290
    assert truth["Arson011_x264"].events == ((150, 420, "Arson"), (680, 1267, "Arson"))
    assert truth["Normal_Videos_003_x264"].events == ()
    for item in listed:
        if item["label"] != "Normal":
            events = [[s, e] for s, e, _ in truth[item["video"]].events]
            assert events == item["segments"]


def test_real_xd(shared):
    truth = ground_truth.read_xd(shared("annotations/xd_annotation_multiclass.txt"))
    listed = json.loads(shared("annotations/xd_test_segments.json").read_text())
    assert len(truth) == 500
    assert "v=U6MC8JJJZSY__#1_label_G-0-0" in truth  # the file says .mp4
    for item in listed:
        if item["label"] != "A":
            events = [
                (s, e, c)
                for (s, e), c in zip(
                    item["segments"], item["segment_labels"], strict=True
                )
            ]
            assert list(truth[item["video"]].events) == events
    plain = ground_truth.read_xd(shared("annotations/xd_annotation.txt"))
    assert truth.keys() == plain.keys()
    assert all(c == "" for t in plain.values() for _, _, c in t.events)


def test_real_shanghaitech(shared):
    path = shared("annotations/shanghaitech_test_segments.json")
    truth = ground_truth.read_json(path)
    assert len(truth) == 199
    assert truth["01_0015"] == GroundTruth(
        str(path), ((86, 374, ""),), 433, "Anomaly", ""
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/UCF/Abuse/Abuse001_x264__0.npy", "Abuse001_x264__0"),
        ("C:\\x\\Abuse001_x264.mp4", "Abuse001_x264"),
        ("Bad.Boys.1995__#01_label_B2-0-0", "Bad.Boys.1995__#01_label_B2-0-0"),
    ],
)
def test_video_name(path, name):
    assert ground_truth.video_name(path) == name


def test_masks(tmp_path):
    np.save(tmp_path / "a.npy", np.array([1, 1, 0, 0, 1, 0, 1], np.uint8))
    np.save(tmp_path / "b.npy", np.zeros(5))
    truth = ground_truth.read_masks(tmp_path, ["a", "b", "c"])
    assert truth["a"].events == ((0, 2, ""), (4, 5, ""), (6, 7, ""))
    assert truth["a"].frames == 7 and truth["b"].events == () and "c" not in truth
    np.save(tmp_path / "c.npy", np.arange(4))
    with pytest.raises(InputError, match="c.npy: expected a 0 or 1 per frame"):
        ground_truth.read_masks(tmp_path, ["c"])
    (tmp_path / "c.npy").write_text("")
    with pytest.raises(InputError, match="c.npy: the file is empty"):
        ground_truth.read_masks(tmp_path, ["c"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected a JSON file"),
        ("{}", "expected a list of videos"),
        ("[1]", 'expected {"video"'),
        ('[{"segments": []}]', 'expected {"video"'),
        ('[{"video": "a"}]', "video a: expected a list of segments"),
        ('[{"video": "a", "segments": [[1]]}]', "whole frames, found \\[1\\]"),
        ('[{"video": "a", "segments": [[1, 2.5]]}]', "whole frames"),
        ('[{"video": "a", "segments": [[1, 2, 3]]}]', "class is a text"),
        ('[{"video": "a", "segments": [[9, 3]]}]', "expected 0 <= start < end"),
        ('[{"video": "a", "segments": [[-1, 3]]}]', "expected 0 <= start < end"),
        ('[{"video": "a", "segments": [], "frames": "x"}]', "frames must be a whole"),
        ('[{"video": "a", "segments": [], "label": 3}]', "label must be a text"),
        ('[{"video": "a", "segments": [[1, 2]], "segment_labels": []}]', "one entry"),
        ('[{"video": "a", "segments": []}, {"video": "a", "segments": []}]', "twice"),
    ],
)
def test_bad_json(tmp_path, content, message):
    path = tmp_path / "test_segments.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        ground_truth.read_json(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("reader", "line", "message"),
    [
        ("read_ucf", "a Abuse 1 2 x -1", ":2: expected name class start"),
        ("read_ucf", "a Abuse 1", ":2: expected name class"),
        ("read_ucf", "a Abuse 5 2 -1 -1", ":2 has the segment \\[5, 2\\]"),
        ("read_ucf", "v Abuse 1 2 -1 -1", "video v is there twice"),
        ("read_xd", "a B1 1 2 B2 4", ":2: expected name, then"),
        ("read_xd", "a 1 2 3", ":2: expected name, then"),
        ("read_xd", "a 1 two", ":2: expected name, then"),
        ("read_xd", "v B1 1 2", "video v is there twice"),
    ],
)
def test_bad_text(tmp_path, reader, line, message):
    path = tmp_path / "truth.txt"
    path.write_text("v Abuse 1 2 -1 -1\n" if reader == "read_ucf" else "v B1 1 2\n")
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError, match=message):
        getattr(ground_truth, reader)(path)


CARD = cards.infer_card(["Normal", "Fire", "Fight"])  # Normal, Fight, Fire
FIRE, FIGHT = 2, 1


def events(*segments, frames=None):
    return GroundTruth("truth", tuple((*s, "")[:3] for s in segments), frames)


def test_settle_own_truth():
    """4 snippets are 64 frames."""
    assert align_ground_truth(events((0, 64)), "v", (FIRE,), 4, CARD) == (
        ((0, 64, FIRE),),
        [],
    )
    got, _ = align_ground_truth(
        events((1, 5, "Fight"), (2, 9, "Fire")), "v", (FIGHT, FIRE), 4, CARD
    )
    assert got == ((1, 5, FIGHT), (2, 9, FIRE))
    # Normal videos: nothing, or the whole video as the released files have it.
    for truth in (None, events(), events((0, 64)), events((3, 9, "Normal"))):
        assert align_ground_truth(truth, "v", (0,), 4, CARD) == ((), [])
    # The file's own length covers a last snippet that is not whole.
    assert align_ground_truth(events((50, 70), frames=70), "v", (FIRE,), 4, CARD)[
        0
    ] == ((50, 64, FIRE),)
    assert align_ground_truth(events((50, 70), frames=70), "v", (FIRE,), 5, CARD)[
        0
    ] == ((50, 70, FIRE),)


@pytest.mark.parametrize(
    ("truth", "label", "message"),
    [
        (None, (FIRE,), "video v is labelled Fire, but no truth file has it"),
        (events(), (FIRE,), "has no event within its 64 frames"),
        (events((0, 65)), (FIRE,), "ends at frame 65, but its features are 64 frames"),
        (events((0, 9)), (FIGHT, FIRE), "needs its class"),
        (events((0, 9, "Riot")), (FIRE,), "class 'Riot' that no class has"),
        (events((0, 9, "Fight")), (FIRE,), "labelled Fire, but has an event of class"),
        (
            events((0, 9, "Fire")),
            (0,),
            "labelled Normal, but has an event of class Fire",
        ),
        (events((0, 9)), (0,), "labelled Normal, but has the event \\[0, 9\\]"),
        (events((0, 9), frames=96), (FIRE,), "is 96 frames long, .* 64 frames long"),
        (events((0, 9), frames=40), (FIRE,), "is 40 frames long, .* 64 frames long"),
        (events((0, 70), frames=64), (FIRE,), "ends at frame 70, past its 64 frames"),
    ],
)
def test_own_truth_that_disagrees(truth, label, message):
    with pytest.raises(InputError, match=message) as error:
        align_ground_truth(truth, "v", label, 4, CARD)
    assert "video v" in str(error.value)


def test_one_snippet_of_slack_is_an_option_and_is_remarked():
    for truth in (events((0, 80)), events((0, 80), frames=80)):
        with pytest.raises(InputError, match="--slack 1"):
            align_ground_truth(truth, "v", (FIRE,), 4, CARD)
        got, remarks = align_ground_truth(truth, "v", (FIRE,), 4, CARD, slack=1)
        assert got == ((0, 64, FIRE),)
        assert len(remarks) == 1 and "80" in remarks[0] and "64 frames" in remarks[0]
    with pytest.raises(InputError, match="97.*64 frames"):
        align_ground_truth(events((0, 97)), "v", (FIRE,), 4, CARD, slack=1)


def test_public_truth_is_of_the_video_not_the_features():
    """A last snippet that features cut off is clipped; more is a mismatch."""
    got = align_ground_truth(events((0, 79)), "v", (FIRE,), 4, CARD, strict=False)
    assert got == (((0, 64, FIRE),), [])
    with pytest.raises(InputError, match="ends at frame 80, .* 64 frames"):
        align_ground_truth(events((0, 80)), "v", (FIRE,), 4, CARD, strict=False)
    got, remarks = align_ground_truth(
        events((0, 95)), "v", (FIRE,), 4, CARD, slack=1, strict=False
    )
    assert got == ((0, 64, FIRE),) and len(remarks) == 1
    # XD-Violence has such a video: labelled B4 with an event of B1.
    got, remarks = align_ground_truth(
        events((0, 9, "Fight")), "v", (FIRE,), 4, CARD, strict=False
    )
    assert got == ((0, 9, FIGHT),) and "labelled Fire" in remarks[0]
    got, remarks = align_ground_truth(
        events((0, 9)), "v", (FIGHT, FIRE), 4, CARD, strict=False
    )
    assert got == ((0, 9, FIGHT),) and "several labels" in remarks[0]
    with pytest.raises(InputError, match="labelled Normal"):
        align_ground_truth(events((0, 9, "Fight")), "v", (0,), 4, CARD, strict=False)


def test_whole_numbers_may_be_written_as_floats(tmp_path):
    path = tmp_path / "truth.json"
    item = {"video": "a", "frames": 200.0, "segments": [[64.0, 128.0]]}
    path.write_text(json.dumps([item]))
    with pytest.raises(InputError, match='are seconds, add .*, if frames "unit": "fr'):
        ground_truth.read_json(path)  # floats may be seconds
    item["unit"] = "frames"
    path.write_text(json.dumps([item]))
    truth = ground_truth.read_json(path)["a"]
    assert truth.events == ((64, 128, ""),) and truth.frames == 200
    assert all(type(x) is int for x in (*truth.events[0][:2], truth.frames))
    path.write_text(json.dumps([item | {"segments": [[64.0, 128.5]]}]))
    with pytest.raises(InputError, match=r"in whole frames, found .*128\.5.*"):
        ground_truth.read_json(path)
