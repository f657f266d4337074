"""Frames or seconds: what a truth file states, what it looks like, what is taken."""

import json

import numpy as np
import pytest

from wsvad_jax import prepare
from wsvad_jax.data.sidecar import Sidecar
from wsvad_jax.datasets import custom, ground_truth, time_units
from wsvad_jax.datasets.ground_truth import GroundTruth
from wsvad_jax.datasets.validation import validate
from wsvad_jax.detection import input_ground_truth, inputs
from wsvad_jax.utils.errors import InputError


def read(tmp_path, value):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(value))
    return ground_truth.read_json(path)


def video(segments, **more):
    return {"video": "v", "segments": segments, **more}


def test_units_as_stated(tmp_path):
    entry = video([[1.5, 3, "Fire"], [4, 5]], unit="seconds")
    (one,) = read(tmp_path, [entry]).values()
    assert (one.unit, one.events) == ("seconds", ())
    assert one.seconds == ((1.5, 3, "Fire"), (4, 5, ""))
    (whole,) = read(tmp_path, {"unit": "seconds", "videos": [video([[1, 2]])]}).values()
    assert (whole.unit, whole.seconds) == ("seconds", ((1, 2, ""),))
    (own,) = read(
        tmp_path, {"unit": "seconds", "videos": [video([[1, 2]], unit="frames")]}
    ).values()
    assert (own.unit, own.events, own.seconds) == ("frames", ((1, 2, ""),), ())
    (plain,) = read(tmp_path, [video([[16, 32]])]).values()
    assert (plain.unit, plain.events) == ("", ((16, 32, ""),))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([video([[1.5, 3.0]])], 'whole frames, found .*; if they are seconds, add "unit"'),
        ([video([[16.0, 32.0]])], 'whole frames, found .*; if they are seconds, add "un'),
        ([video([[1.5, 3]], unit="frames")], "video v: a segment is .* in whole frames"),
        ([video([[1, 3]], unit="s")], '"unit" is \'s\'; expected "frames" or "seconds"'),
        ([video([[1, 3]], unit=25)], '"unit" is 25; expected "frames" or "seconds"'),
        ([video([[3, 1]], unit="seconds")], "expected 0 <= start < end in seconds"),
        ([video([[0, "4 s"]], unit="seconds")], "class\\] in seconds, found"),
        ({"unit": "ms", "videos": []}, "\"unit\" is 'ms'; expected"),
        ([video([[1, 3]], units="seconds")], "has the key 'units'; expected \"unit\""),
        ({"videos": []}, "expected a list of videos, one object each, or"),
    ],
)  # fmt: skip
def test_units_that_are_none(tmp_path, value, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, value)


def look(*videos, stride=16):
    """Looks at events of videos of a length in frames and, where known, seconds."""
    time_units.check_unit(
        [
            (
                GroundTruth("t.json", tuple((*e, "") for e in events), unit=""),
                frames,
                seconds,
            )
            for events, frames, seconds in videos
        ],
        stride,
    )


@pytest.mark.parametrize(
    ("videos", "other"),
    [
        ([([(3, 9)], 3000, 100.0)], "seconds"),
        ([([(3, 9), (80, 99)], 3000, 0.0), ([(0, 20)], 600, 24.0)], "seconds"),
        ([([(20, 25)], 600, 24.0)], "seconds"),  # an end that was rounded up
        ([([(2, 4)], 192, 0.0)], "seconds"),
        ([([(3, 9)], 600, 8.0), ([(30, 37)], 640, 30.0)], "seconds or snippets"),
        ([([(50, 59)], 600, 0.0)], "seconds or snippets"),  # of ten frames a second
        ([([(300, 301), (310, 311)], 600, 24.0)], "seconds or snippets"),
    ],
)
def test_times_that_may_be_something_else(videos, other):
    with pytest.raises(InputError, match=f"read as frames or as {other}, since no"):
        look(*videos)


def test_a_mistake_among_seconds_is_no_sign_of_frames():
    videos = [([(3, 9)], 3000, 100.0)] * 12 + [([(90, 180)], 3000, 100.0)]
    with pytest.raises(InputError, match="seconds, since hardly an event ends after"):
        look(*videos)


@pytest.mark.parametrize(
    "videos",
    [
        [([(16, 32)], 40, 0.0)],
        [([(16, 32)], 40, 1.6)],
        [([(3, 9)], 3000, 100.0), ([(500, 900)], 3000, 100.0)],  # one early event
        [([(3, 9), (1500, 1501)], 3000, 100.0)],
        [([(0, 60)], 64, 2.1)],
        [([(32, 96)], 1600, 64.0)],
        [([], 3000, 100.0)],
        [],
    ],
)
def test_short_and_early_events_in_frames(videos):
    look(*videos)


def test_a_stated_unit_is_not_doubted():
    truth = GroundTruth("t.json", ((3, 9, ""),), unit="frames")
    time_units.check_unit([(truth, 3000, 100.0)], 16)


@pytest.mark.parametrize("name", ["ucf", "xd", "shanghaitech"])
def test_the_public_truth_is_in_frames(shared, name):
    truth = ground_truth.read_json(shared(f"annotations/{name}_test_segments.json"))
    known = []
    for item in truth.values():
        end = max((e for _, e, _ in item.events), default=160)
        known.append((item, item.frames or 2 * end, 0.0))
    time_units.check_unit(known, 16)


def test_seconds_become_the_frames_that_are_there():
    # Twelve frames a second at first, then twice as many: 4 snippets, 60 frames.
    edges = np.array([0.0, 16 / 12, 32 / 12, 32 / 12 + 16 / 24, 32 / 12 + 28 / 24])
    clock = time_units.SnippetTimes(edges, 60)
    stated = ((0.0, 1.0, "Fire"), (16 / 12, 3.0, ""), (3.0, 4.5, ""))
    truth = GroundTruth("t.json", unit="seconds", seconds=stated)
    taken = time_units.in_frames(truth, "v", clock, 16)
    assert taken.events == ((0, 12, "Fire"), (16, 40, ""), (40, 60, ""))
    assert taken.unit == "frames"
    late = GroundTruth("t.json", unit="seconds", seconds=((0.0, 9.0, ""),))
    with pytest.raises(
        InputError, match="video v has an event that ends at 9 s, past "
    ):
        time_units.in_frames(late, "v", clock, 16)
    with pytest.raises(InputError, match="events in seconds, but its features have no"):
        time_units.in_frames(late, "v", None, 16)


@pytest.fixture
def timed(own):
    """A folder whose videos have sidecars: 40 snippets at 8 frames a second."""
    T, fps = 40, 8.0
    for i, name in enumerate(v for rows in own.rows.values() for v, _ in rows):
        own.write_features(name, np.full((T, 6), i / 8, np.float32))
        seconds = tuple(16 * n / fps for n in range(T))
        Sidecar(
            f"{name}.mp4", "tower", "h", 16, "middle", 1, "stretch", 224, fps,
            T * 16, seconds, T * 16 / fps,
        ).write(own.path / "features" / f"{name}.json")  # fmt: skip
    events = {"tn": [], "tf": [[2, 10.5]], "tm": [[4, 5, "Fight"], [6, 80, "Fire"]]}
    own.seconds = [{"video": v, "segments": s} for v, s in events.items()]
    return own


def test_a_folder_with_truth_in_seconds(timed, tmp_path, capsys):
    timed.write_truth({"unit": "seconds", "videos": timed.seconds})
    found = custom.load(timed.path)
    assert [v.segments for v in found.splits["test"].videos] == [
        (), ((16, 84, 2),), ((32, 40, 1), (48, 640, 2))
    ]  # fmt: skip
    looked = validate.validate(timed.path)
    assert looked.usable and "true times of 3 videos are taken as sec" in looked.text()
    arguments = [str(timed.path), "--data_dir", str(tmp_path / "data")]
    assert prepare.main(arguments) == 0
    assert "true times of 3 videos are taken as seconds" in capsys.readouterr().out


def test_seconds_that_the_file_does_not_state(timed):
    whole = [{**t, "segments": [[2, 10]]} for t in timed.seconds[1:]]
    whole[1]["segments"][0].append("Fire")
    timed.write_truth([timed.seconds[0], *whole])
    message = "can be read as frames or as seconds, since no event ends after"
    with pytest.raises(InputError, match=message):
        custom.load(timed.path)
    looked = validate.validate(timed.path)
    assert not looked.usable and "read as frames or as seconds" in looked.text()
    timed.write_truth({"unit": "frames", "videos": [timed.seconds[0], *whole]})
    found = custom.load(timed.path)
    assert found.splits["test"].videos[1].segments == ((2, 10, 2),)


def test_seconds_without_times(own):
    own.write_truth([{**t, "unit": "seconds"} for t in own.truth])
    with pytest.raises(
        InputError, match="video tf has events in seconds, but its feat"
    ):
        custom.load(own.path)


def test_detection_takes_seconds_and_asks_where_it_may_be_either(timed, tmp_path):
    found = inputs.find_inputs([timed.path / "features"])
    truth = read(tmp_path, {"unit": "seconds", "videos": timed.seconds})
    input_ground_truth.check_ground_truth(found, truth, 16, None)
    (source,) = (s for s in found if s.name == "tm")
    edges = inputs.read_features(source, 30.0).edges
    events = input_ground_truth.events_in_seconds(truth["tm"], edges)
    assert [(e.start, e.end, e.category) for e in events] == [
        (4, 5, "Fight"), (6, 80, "Fire")
    ]  # fmt: skip
    plain = read(tmp_path, [video([[2, 10]])])
    plain["tf"] = plain.pop("v")
    with pytest.raises(InputError, match="can be read as frames or as seconds"):
        input_ground_truth.check_ground_truth(found, plain, 16, None)
    (timed.path / "features" / "tm.json").unlink()
    with pytest.raises(InputError, match="tm.npy has no times; pass --fps, or give"):
        input_ground_truth.check_ground_truth(found, truth, 16, None)
    input_ground_truth.check_ground_truth(found, truth, 16, 8.0)
