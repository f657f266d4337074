"""Events from scores: what counts as one, where it ends, and what it is called."""

import itertools
import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from event_matching import matches, overlap
from hypothesis import given, settings
from hypothesis import strategies as st

from wsvad_jax.evaluation import events
from wsvad_jax.evaluation.categories import snippet_class
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.evaluation.events import Event

NAMES = ("Normal", "Fire", "Fight")
SCORES = arrays.arrays(
    np.float32, st.integers(0, 60), elements=st.floats(0, 1, width=32)
)


def curve(*pieces: tuple[int, float]) -> np.ndarray:
    """Scores given as (snippets, score) pieces."""
    return np.concatenate([np.full(n, s, np.float32) for n, s in pieces])


def found(anomaly, seconds=1.0, baseline=None, **rules) -> list[tuple[float, float]]:
    edges = np.arange(len(anomaly) + 1) * seconds
    made = events.find_events(
        anomaly, None, edges, NAMES, EventRules(**rules), baseline=baseline
    )
    return [(e.start, e.end) for e in made]


def test_fixed_levels_are_hysteresis():
    scores = curve((3, 0.1), (2, 0.4), (1, 0.7), (2, 0.4), (2, 0.1), (3, 0.4), (2, 0.9))
    assert events.threshold_segments(scores, high=0.6, low=0.3) == [(3, 8), (10, 15)]
    assert events.threshold_segments(scores, high=0.8, low=0.3) == [(10, 15)]
    assert events.threshold_segments(scores, high=0.6, low=0.6) == [(5, 6), (13, 15)]
    assert events.threshold_segments(scores[:0]) == []


@given(SCORES, st.floats(0, 1), st.floats(0, 1))
def test_spans_hold_every_high_score_and_no_low_one(scores, a, b):
    low, high = sorted((a, b))
    made = events.threshold_segments(scores, high=high, low=low)
    inside = np.zeros(len(scores), bool)
    for first, stop in made:
        assert first < stop and (scores[first:stop] >= low).all()
        assert scores[first:stop].max() >= high
        assert not inside[max(first - 1, 0) : stop].any()  # maximal, so never touching
        inside[first:stop] = True
    assert inside[scores >= high].all()


@settings(deadline=None)
@given(SCORES, st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0, 1))
def test_peaks_are_apart_and_high_enough(scores, high, rise, rel_height):
    rules = EventRules(high=high, min_prominence=rise, rel_height=rel_height)
    made = events.peak_segments(scores, rules)
    assert made == sorted(made)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(made))
    for first, stop in made:
        top = scores[first:stop].max()
        usual = min(np.quantile(scores, events.BASELINE_QUANTILE), max(high - rise, 0))
        assert top >= min(high, usual + rise)
    if len(scores) and scores.max() >= high:  # the highest score is never lost
        assert any(first <= int(scores.argmax()) < stop for first, stop in made)


def test_a_low_peak_counts_where_the_rest_is_lower():
    quiet = curve((10, 0.05), (4, 0.32), (10, 0.05))
    assert found(quiet) == [(10, 14)]
    assert found(quiet, min_prominence=0.4) == []
    assert found(quiet + np.float32(0.3), min_prominence=0.4) == [
        (10, 14)
    ]  # above high
    assert found(curve((10, 0.2), (4, 0.3), (10, 0.2))) == []


def test_a_valley_parts_two_peaks_unless_levels_are_fixed():
    scores = curve(
        (5, 0.1), (3, 0.9), (1, 0.6), (2, 0.45), (1, 0.6), (3, 0.95), (5, 0.1)
    )
    assert found(scores, rel_height=0.3) == [(5, 8), (12, 15)]
    assert found(scores, low=0.4) == [(5, 15)]
    assert found(scores, low=0.5, max_gap=0.0) == [(5, 9), (11, 15)]
    assert found(scores, low=0.5) == [(5, 15)]
    assert found(scores, low=0.5, max_gap=2.0) == [(5, 15)]
    assert found(scores, low=0.5, max_gap=1.9) == [(5, 9), (11, 15)]


def test_what_the_place_in_a_window_adds_is_no_event():
    place = curve((3, 0.4), (10, 0.1), (3, 0.4), (3, 0.4), (10, 0.1), (3, 0.4))
    assert found(place) == [(0, 3), (13, 19), (29, 32)]
    assert found(place, baseline=place) == []
    scores = place.copy()
    scores[5:9] = 0.5
    assert found(scores, baseline=place) == [(5, 9)]
    assert found(scores, baseline=place, low=0.35)[0] == (5, 9)  # plain scores


def test_an_event_ends_at_a_height_measured_downwards_from_its_peak():
    import scipy.signal  # slow, so not in each worker

    scores = curve(
        (9, 0.0), *((1, s) for s in (0.3, 0.55, 1.0, 0.75, 0.5, 0.2)), (9, 0.0)
    )
    assert found(scores, min_length=0.0, rel_height=0.0) == [(11, 12)]
    assert found(scores, min_length=0.0, rel_height=0.25) == [(11, 13)]
    assert found(scores, rel_height=0.5) == [(10, 14)]  # at half height
    assert found(scores, rel_height=0.8) == [(9, 15)]

    # As scipy's, where the usual level is the level of the peak's valleys.
    width, _, first, last = scipy.signal.peak_widths(scores, [11], rel_height=0.5)
    assert found(scores, rel_height=0.5) == [(math.ceil(first[0]), int(last[0]) + 1)]
    assert 3 < width[0] < 5


def test_a_video_that_is_anomalous_throughout_is_one_event():
    noise = np.random.RandomState(0).uniform(0.85, 0.95, 50).astype(np.float32)
    assert found(noise) == [(0, 50)]


def test_short_events_are_dropped_by_seconds():
    scores = curve((8, 0.1), (2, 0.9), (8, 0.1))
    assert found(scores, seconds=0.5) == []
    assert found(scores, seconds=0.5, min_length=1.0) == [(4, 5)]
    assert found(scores) == [(8, 10)]


def test_an_event_is_named_by_its_abnormal_classes_alone():
    anomaly = curve((6, 0.1), (3, 0.7), (6, 0.1))
    classes = np.tile(np.array([0.9, 0.06, 0.04], np.float32), (15, 1))
    classes[6:9] = [0.6, 0.1, 0.3]
    edges = np.linspace(0, 15, 16)
    (event,) = events.find_events(anomaly, classes, edges, NAMES)
    assert event == Event(6.0, 9.0, "Fight", float(np.float32(0.7)), 6.5)
    (event,) = events.find_events(anomaly, None, edges, NAMES)
    assert event.category == "anomaly"


def test_times_come_from_the_edges():
    anomaly = np.array([0.1, 0.1, 0.9, 0.8, 0.1], np.float32)
    edges = np.array([0, 1.0, 2.5, 2.75, 6.0, 6.25])
    (event,) = events.find_events(anomaly, None, edges, NAMES)
    assert (event.start, event.end, event.peak) == (2.5, 6.0, 2.625)


def test_one_snippet_and_none():
    assert found(np.array([0.9], np.float32), seconds=2.0) == [(0, 2.0)]
    assert found(np.zeros(0, np.float32)) == []


def event(start: float, end: float) -> Event:
    return Event(float(start), float(end), "Fire", 0.9, (start + end) / 2)


def test_overlap_is_intersection_over_union():
    assert overlap(event(0, 4), event(2, 6)) == pytest.approx(1 / 3)
    assert overlap(event(0, 4), event(4, 6)) == 0
    assert overlap(event(1, 1), event(1, 1)) == 0
    assert overlap(event(0, 4), event(0, 4)) == 1


def test_each_event_is_matched_once():
    true = [event(0, 10), event(10, 20)]
    pairs = matches([event(1, 19), event(11, 20)], true)
    assert pairs == [(event(1, 19), true[0]), (event(11, 20), true[1])]
    assert matches([event(0, 20)], true) in (
        [(event(0, 20), true[0])],
        [(event(0, 20), true[1])],
    )
    assert matches([event(0, 20)], true, least=0.6) == []
    assert not math.isnan(overlap(event(0, 0), event(0, 0)))


@given(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_a_snippets_class_never_contradicts_its_score(score, classes):
    found = snippet_class(score, np.array(classes), NAMES, 0.35)
    assert (found == NAMES[0]) == (score < 0.35)
    if score >= 0.35:
        assert classes[NAMES.index(found)] == max(classes[1:])
