"""Why scores are no event: the reasons agree with the events that are found."""

import hypothesis.extra.numpy as arrays
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wsvad_jax.evaluation.bumps import explain
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.evaluation.events import find_events, levels
from wsvad_jax.evaluation.position_bias import remove_position_bias

SCORES = arrays.arrays(
    np.float32, st.integers(0, 60), elements=st.floats(0, 1, width=32)
)
LEVEL = st.floats(0.01, 1)


@st.composite
def rules(draw):
    high = draw(LEVEL)
    return EventRules(
        high=high,
        low=draw(st.none() | st.floats(0.01, high)),
        min_prominence=draw(LEVEL),
        rel_height=draw(st.floats(0, 1)),
        min_length=draw(st.floats(0, 6)),
        max_gap=draw(st.floats(0, 4)),
    )


@settings(deadline=None, max_examples=150)
@given(
    SCORES, rules(), st.integers(0, 2**16), st.booleans(), st.none() | st.floats(0, 1)
)
def test_reasons_are_those_of_the_events(scores, rules, seed, biased, threshold):
    edges = np.arange(len(scores) + 1) * 1.0
    random = np.random.RandomState(seed).uniform(0, 0.6, len(scores))
    baseline = random.astype(np.float32) if biased else None
    counts = None if threshold is None else lambda score: score > threshold
    events = find_events(scores, None, edges, (), rules, baseline=baseline)
    taken = [e for e in events if counts is None or counts(e.score)]

    found = explain(scores, edges, rules, baseline=baseline, counts=counts)
    bumps = found.bumps

    # Events and bumps are apart, and no score that a peak could have is left out.
    owner = np.zeros(len(scores), int)
    for each in (*taken, *bumps):
        owner[int(each.start) : int(each.end)] += 1
    assert owner.max(initial=0) <= 1
    assert owner[scores >= found.required].all()

    corrected = scores
    if rules.low is None and biased:
        corrected = remove_position_bias(scores, baseline)
    if rules.low is None and len(scores):
        assert (found.usual, found.required) == levels(corrected, rules)

    # Each reason is the one rule that the bump misses.
    longer = EventRules(**{**vars(rules), "min_length": 0.0})
    all_lengths = find_events(scores, None, edges, (), longer, baseline=baseline)
    of = {
        reason: [(b.start, b.end) for b in bumps if b.reason == reason]
        for reason in ("short", "calibration", "low", "beside")
    }
    assert of["calibration"] == [(e.start, e.end) for e in events if e not in taken]
    assert of["short"] == [
        (e.start, e.end) for e in all_lengths if e.end - e.start < rules.min_length
    ]
    inside = [int(e.peak) for e in all_lengths]
    for bump in bumps:
        span = slice(int(bump.start), int(bump.end))
        assert bump.score == scores[span].max()
        assert bump.corrected == corrected[span].max()
        if bump.reason == "low":
            assert bump.corrected < found.required
        if bump.reason == "beside":
            assert not any(bump.start <= k < bump.end for k in inside)


def curve(*pieces):
    return np.concatenate([np.full(n, s, np.float32) for n, s in pieces])


def reasons(scores, counts=None, **options):
    edges = np.arange(len(scores) + 1) * 1.0
    found = explain(scores, edges, EventRules(**options), counts=counts)
    return [(b.start, b.end, b.reason) for b in found.bumps]


def test_each_reason():
    scores = curve(
        (9, 0.05), (1, 0.9), (9, 0.05), (3, 0.14), (9, 0.05), (4, 0.3), (9, 0.05)
    )
    assert reasons(scores) == [(9, 10, "short"), (19, 22, "low")]
    assert reasons(scores, lambda score: score > 0.4) == [
        (9, 10, "short"),
        (19, 22, "low"),
        (31, 35, "calibration"),
    ]
    assert reasons(scores, min_length=0.0, min_prominence=0.05) == []
    falls = curve((9, 0.05), (4, 0.9), (2, 0.4), (9, 0.05))
    assert reasons(falls) == [(13, 15, "beside")]
    assert reasons(falls, rel_height=0.9) == []


def test_a_score_that_its_place_explains_is_said_to_be_low():
    baseline = curve((3, 0.6), (20, 0.1))
    found = explain(baseline, np.arange(24.0), EventRules(), baseline=baseline)
    assert [(b.start, b.end, b.reason) for b in found.bumps] == [(0, 3, "low")]
    assert found.bumps[0].corrected < 0.2 < found.bumps[0].score
