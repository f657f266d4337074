"""Times and counts as text."""

import pytest

from wsvad_jax.utils.text import clock, count


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0, "0:00"), (59.6, "1:00"), (3599.4, "59:59"), (3600.0, "1:00:00")],
)
def test_clock(seconds, expected):
    assert clock(seconds) == expected


def test_clock_with_tenths():
    assert clock(1.25, tenths=True) == "0:01.3"
    assert clock(59.96, tenths=True) == "1:00.0"


def test_counts_have_their_noun():
    assert [count(n, "event") for n in (0, 1, 12000)] == [
        "0 events",
        "1 event",
        "12 000 events",
    ]
