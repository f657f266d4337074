"""A calibration decides which events count, and holds for what it was made with."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from sample_videos import write_video
from untrained import write_model

from wsvad_jax.detection import calibrate_files, live
from wsvad_jax.detection.alarm_wish import AlarmWish
from wsvad_jax.detection.calibration import FILE, read_calibration
from wsvad_jax.detection.causal import causal_scores
from wsvad_jax.detection.detector import Detector
from wsvad_jax.detection.drift import LiveCount
from wsvad_jax.detection.report.write import write
from wsvad_jax.detection.run import DetectorOptions, settings_shown
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.metrics.alarm_rates import BlockScores
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json

D, SNIPPETS = 32, 200
WISH = AlarmWish(3000.0, 10.0)  # of 8640 blocks per day
RULES = EventRules(min_prominence=0.02, min_length=0.0, max_gap=0.0)
EDGES = np.arange(SNIPPETS + 1) * 16 / 30


def features(seed: int) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal((SNIPPETS, D)).astype("f2")


@pytest.fixture(scope="module")
def place(tiny, tmp_path_factory):
    """A model, ordinary recordings, and calibrations for files and for --live."""
    path = tmp_path_factory.mktemp("calibrated")
    write_model(tiny, "dsanet", path / "model", frame="middle")
    write_model(tiny, "mil_ranking", path / "other")
    (path / "normal").mkdir()
    for seed in range(4):
        np.save(path / "normal" / f"{seed}.npy", features(seed))
    for name, rules, is_live in (
        ("files", RULES, False),
        ("live", EventRules(high=0.1, low=0.05, min_length=0.0, max_gap=0.0), True),
    ):
        wish = AlarmWish(WISH.rate, WISH.block, is_live)
        options = DetectorOptions(str(path / "model"), clip=str(tiny.clip))
        calibrate_files.calibrate_files(
            [str(path / "normal")], path / name, options, rules, wish, fps=30.0
        )
    return path


@pytest.fixture(scope="module")
def plain(tiny, place):
    return Detector(place / "model", clip=str(tiny.clip), progress=False)


@pytest.fixture
def detector(plain):
    """The detector, which a test may calibrate."""
    yield plain
    plain.calibrate(None)


@pytest.mark.parametrize("recordings", ["float32", "bfloat16", "unknown"])
def test_another_precision_than_the_recordings_is_noted(
    detector, place, capsys, recordings
):
    """It moves scores by rounding alone, so that it isn't refused."""
    calibration = read_calibration(place / "files")
    half = dataclasses.replace(calibration.features, dtype="bfloat16")
    calibration = dataclasses.replace(
        calibration, features=dataclasses.replace(half, dtype=recordings)
    )
    detector.calibrate(calibration)
    for _ in range(2):
        calibration.check_features(half, "a.npy", detector)

    shown = settings_shown(detector, RULES, False).get("dtype")
    note = f"bfloat16 instead of float32 (the calibration {place / 'files' / FILE})"
    assert shown == (note if recordings == "float32" else None)
    assert capsys.readouterr().err.count(note) == (recordings == "float32")
    detector.features.precisions.clear()


def test_recordings_of_two_precisions_have_none_in_common(detector):
    one = detector.feature_protocol
    kinds = [
        dataclasses.replace(one, encoder="clip", dtype=dtype)
        for dtype in ("float32", "bfloat16", "float32")
    ]
    known = None
    for protocol in kinds:
        known = calibrate_files._one_protocol(detector, known, protocol, "a.npy")
    assert known.dtype == "unknown"


def test_the_file_says_what_it_rests_on(place):
    value = read_json(place / "files" / FILE)
    seconds = 4 * SNIPPETS * 16 / 30
    assert len(value["block_scores"]) == int(seconds / 10) == 42
    assert value["hours"] == pytest.approx(420 / 3600, abs=1e-4)
    assert value["recordings"] == 4 and value["made_for"] == "files"
    assert value["rules"]["min_prominence"] == 0.02
    # Of 43 possible places of a new block, 14 are above the threshold: 14/43 < 3000/8640.
    above = np.array(value["block_scores"]) > value["threshold"]
    assert above.sum() == 13
    rate = value["false_alarms_per_day"]
    assert (
        rate["expected"] == pytest.approx(8640 * 14 / 43, rel=1e-2) and rate["low"] > 0
    )


def test_events_are_those_above_the_threshold_with_their_rate(place, detector):
    every = detector.detect(features(9), EDGES, "new", RULES).events
    assert all(event.false_alarms_per_day is None for event in every)
    calibration = detector.calibrate(place / "files").calibration
    kept = detector.detect(features(9), EDGES, "new").events

    wanted = [e for e in every if e.score > calibration.threshold]
    assert 0 < len(wanted) < len(every)
    assert [(e.start, e.score) for e in kept] == [(e.start, e.score) for e in wanted]
    scores = np.array(calibration.blocks.maxima)
    for event in kept:
        rate = event.false_alarms_per_day
        assert rate.blocks == np.sum(scores >= event.score)
        assert rate.expected == pytest.approx(8640 * (rate.blocks + 1) / 43)
        assert rate.low <= rate.expected <= rate.high


def test_results_state_the_rate_only_where_it_is_known(place, detector, tmp_path):
    for name in ("plain", "calibrated"):
        detector.calibrate(place / "files" if name == "calibrated" else None)
        results = [detector.detect(features(9), EDGES, "new", RULES)]
        settings = settings_shown(detector, RULES, force=False)
        write(tmp_path / name, results, "title", settings, [])

    plain = read_json(tmp_path / "plain" / "events.json")
    assert "threshold" not in plain["settings"]
    assert "false_alarms" not in json.dumps(plain)
    page = (tmp_path / "plain" / "report.html").read_text()
    visible = re.sub(r"<(style|script).*?</\1>|<[^>]*>", "", page, flags=re.DOTALL)
    assert "score" in visible and not re.search(r"\bsure\b|%|alarm", visible)

    known = read_json(tmp_path / "calibrated" / "events.json")
    event = known["videos"][0]["events"][0]
    assert known["settings"]["threshold"] > 0
    assert set(event["false_alarms_per_day"]) == {"expected", "low", "high", "blocks"}
    page = (tmp_path / "calibrated" / "report.html").read_text()
    assert "Expected false alarms per day at this score: " in page
    assert "per day above the calibration&#39;s threshold: " in page
    head, first, *_ = (tmp_path / "calibrated" / "events.csv").read_text().splitlines()
    assert head.endswith(",false_alarms_per_day_low,false_alarms_per_day_high")
    assert len(head.split(",")) == len(first.split(","))


def test_causal_scores_are_those_of_live(place, detector, tmp_path):
    video = write_video(tmp_path / "video.ts", 16 * 40)
    out = io.StringIO()
    live.run(detector, str(video), pace=0.0, out=out)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    wanted = [line["anomaly"] for line in lines if line["type"] == "snippet"]
    found = causal_scores(detector, detector.extractor(video).features)
    np.testing.assert_allclose(found.anomaly, wanted, atol=2e-3)
    assert np.ptp(wanted) > 0.02


def test_live_events_are_those_above_the_threshold(place, detector, tmp_path):
    video = write_video(tmp_path / "video.ts", 16 * 60)
    calibration = read_calibration(place / "live")

    def events(rules=None):
        out = io.StringIO()
        live.run(detector, str(video), rules, pace=0.0, out=out)
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
        return lines[0], [line for line in lines if line["type"] == "closed"]

    _, every = events(calibration.rules)
    detector.calibrate(calibration)
    start, kept = events()
    scores = [event["score"] for event in every]
    assert every and all("false_alarms_per_day" not in event for event in every)
    assert [e["score"] for e in kept] == [s for s in scores if s > start["threshold"]]
    assert all(e["false_alarms_per_day"]["low"] >= 0 for e in kept)


def test_a_live_source_with_unusual_alarms_is_named(place, detector, tmp_path):
    """Nearly every block of these ordinary recordings had an alarm."""
    blocks = BlockScores(10.0, (0.0,) + (0.9,) * 30)
    calibration = read_calibration(place / "live")
    calibration = dataclasses.replace(calibration, blocks=blocks, wish=8400.0)
    assert calibration.threshold == 0.0
    detector.calibrate(calibration)

    out = io.StringIO()
    video = write_video(tmp_path / "video.ts", 16 * 100)
    live.run(detector, str(video), pace=0.0, out=out)
    *_, remark, end = [json.loads(line) for line in out.getvalue().splitlines()]
    assert end["type"] == "end" and remark["type"] == "remark"
    assert "in 0.03 h, but ordinary recordings have" in remark["remark"]
    assert "events may be missed" in remark["remark"]


def test_a_live_count_is_compared_after_each_day(place):
    calibration = read_calibration(place / "live")
    calibration = dataclasses.replace(
        calibration, blocks=BlockScores(10.0, (0.0,) * 99 + (0.9,)), wish=600.0
    )
    count = LiveCount(calibration, period=500.0)
    said = [count.add(1.0, [0.9] if i % 10 == 3 else []) for i in range(1000)]
    assert [i for i, sentence in enumerate(said) if sentence] == [499, 999]
    assert said[499].startswith(
        "50 alarms in 0.14 h, but ordinary recordings have 0 to"
    )
    # Several alarms of one block are one, and a quiet day has none.
    said = [count.add(1.0, [0.9] if i < 9 else []) for i in range(500)]
    assert not any(said) and not count.sentence()


def test_scores_of_another_way_are_refused(place, detector, tmp_path):
    detector.calibrate(place / "live")
    with pytest.raises(InputError, match="made for --live, but used for files"):
        detector.detect(features(9), EDGES, "new")
    detector.calibrate(place / "files")
    with pytest.raises(InputError, match="made for files, but used for --live"):
        video = write_video(tmp_path / "video.ts", 16)
        live.run(detector, str(video), out=io.StringIO())


def test_other_rules_models_and_features_are_refused(place, detector, tiny):
    with pytest.raises(
        InputError, match="another model.*name is dsanet, and mil_ranki"
    ):
        Detector(place / "other", calibration=place / "files")
    with pytest.raises(InputError, match="force accepts others"):
        model, clip = place / "model", str(tiny.clip)
        Detector(model, clip=clip, force=True, calibration=place / "files")

    detector.calibrate(place / "files")
    with pytest.raises(InputError, match="other event rules: high 0.7 instead of 0.5"):
        detector.detect(
            features(9), EDGES, "new", high=0.7, min_prominence=0.02, max_gap=0.0
        )


def test_weights_that_differ_are_another_model(place, detector, tmp_path):
    calibration = read_calibration(place / "files")
    value = read_json(place / "files" / FILE)
    value["model"]["weights"] = "elements:0"
    write_json(tmp_path / FILE, value)
    with pytest.raises(InputError, match="weights is elements:0, and elements:"):
        detector.calibrate(tmp_path)
    assert detector.calibrate(calibration).calibration is calibration


def test_features_of_another_protocol_are_refused(place, detector, tmp_path):
    value = read_json(place / "files" / FILE)
    value["features"]["resize"] = "clip"
    write_json(tmp_path / FILE, value)
    detector.calibrate(tmp_path)
    with pytest.raises(InputError, match="resize stretch instead of clip"):
        detector(write_video(tmp_path / "video.mp4", 40))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threshold": 0.9}, "threshold is 0.9, but its blocks give"),
        ({"wished_per_day": 1.0}, "can't support 1 false alarm per day"),
        ({"unit": "per 100 videos"}, "the key wished_per_100_videos is missing"),
        ({"unit": "per week"}, "unit"),
        (
            {"unit": "per 100 videos", "wished_per_100_videos": 30.0},
            "rates are per 100 videos, but there is the key block_seconds",
        ),
        ({"block_seconds": None}, "rates are per day, but there is no block_seconds"),
        (
            {
                "unit": "per 100 videos",
                "wished_per_100_videos": 30.0,
                "block_seconds": None,
            },
            "42 block_scores for 4 videos",
        ),
        ({"block_scores": [0.5, 0.1]}, "not ascending"),
        ({"block_scores": [0.5, 2.0]}, "block_scores"),
        ({"block_scores": []}, "block_scores"),
        ({"made_for": "both"}, "made_for must be 'files' or 'live', found 'both'"),
        ({"version": 2}, "version"),
        ({"rules": {"high": 3}}, "rules: high is 3"),
    ],
)
def test_an_edited_file_is_refused(place, tmp_path, change, words):
    write_json(tmp_path / FILE, read_json(place / "files" / FILE) | change)
    with pytest.raises(InputError, match=words):
        read_calibration(tmp_path)


def test_a_file_from_before_units_is_read(place, tmp_path):
    value = read_json(place / "files" / FILE)
    del value["unit"]
    write_json(tmp_path / FILE, value)
    assert read_calibration(tmp_path).rate.unit == "per day"


def test_a_folder_without_a_calibration_is_named(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}: no calibration.json there"):
        read_calibration(tmp_path)


@pytest.mark.parametrize("value", [0.5, True, ["a"], ""])
def test_what_is_no_folder_is_named(value):
    with pytest.raises(InputError, match="^calibration is .*; expected the folder"):
        read_calibration(value)
