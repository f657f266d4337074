"""Times and counts as text."""

import pytest

from wsvad_jax.utils.text import (
    change_in_points,
    clock,
    count,
    hours_or_seconds,
    markdown_table,
)


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


def test_a_change_is_bold_where_its_printed_interval_leaves_out_0():
    assert change_in_points(-0.04, [-0.091, -0.0052]) == "-4.00 [-9.10, -0.52]"
    text = change_in_points(-0.04, [-0.091, -0.0052], digits=1, bold=True)
    assert text == "**-4.0 [-9.1, -0.5]**"
    # What is printed as 0 is 0, and has no minus sign.
    text = change_in_points(-1e-9, [-0.2, -1e-9], bold=True)
    assert text == "+0.00 [-20.00, +0.00]"
    assert change_in_points(None, None) == change_in_points(0.1, None) == "-"


def test_cells_of_a_markdown_table_are_escaped():
    rows = [["name", "n"], ["a|b <i>", "1"]]
    lines = markdown_table(rows).splitlines()
    assert lines == ["| name | n |", "| --- | ---: |", "| a\\|b &lt;i> | 1 |"]
