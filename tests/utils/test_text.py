"""Times and counts as text."""

import pytest

from wsvad_jax.utils.text import clock, count, hours_or_seconds


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0, "0:00"), (59.6, "0:59"), (3599.4, "59:59"), (3600.0, "1:00:00")],
)
def test_clock(seconds, expected):
    assert clock(seconds) == expected


def test_clock_with_tenths():
    assert clock(1.25, tenths=True) == "0:01.2"
    assert clock(59.96, tenths=True) == "0:59.9"


def test_counts_have_their_noun():
    assert [count(n, "event") for n in (0, 1, 12000)] == [
        "0 events",
        "1 event",
        "12 000 events",
    ]


def test_a_short_length_is_in_seconds():
    assert [hours_or_seconds(h) for h in (2.254, 0.1, 0.009)] == [
        "2.25 h",
        "0.10 h",
        "32 s",
    ]
