"""Thresholds and rates from blocks of ordinary recordings keep what they promise."""

import numpy as np
import pytest

from wsvad_jax.metrics.alarm_rates import AlarmRate, BlockScores, Recording
from wsvad_jax.utils.errors import InputError


def blocks_of(maxima, seconds=60.0):
    return BlockScores(seconds, tuple(sorted(maxima)))


def test_recordings_are_put_end_to_end_and_events_count_at_their_peak():
    recordings = [
        Recording("a", 45.0, ((10.0, 0.3), (44.0, 0.7))),
        Recording("b", 45.0, ((14.0, 0.9), (16.0, 0.4))),  # at 59 s and 61 s
        Recording("c", 45.0, ((44.0, 0.99),)),  # in the rest, which is dropped
    ]
    blocks = BlockScores.of_recordings(recordings, 60.0)
    assert blocks.maxima == (0.4, 0.9)
    assert blocks.size == pytest.approx(2 / 60)


def test_sums_of_seconds_lose_no_block():
    recordings = [Recording(str(i), 0.1, ()) for i in range(600)]
    assert len(BlockScores.of_recordings(recordings, 10.0).maxima) == 6


def test_a_block_without_an_event_scores_zero():
    assert BlockScores.of_recordings([Recording("a", 61.0, ())], 60.0).maxima == (0.0,)


@pytest.mark.parametrize(("n", "per_block"), [(39, 0.1), (99, 0.01), (50, 0.5)])
def test_new_blocks_are_above_the_threshold_as_seldom_as_wished(n, per_block):
    random = np.random.default_rng(0)
    above = []
    for _ in range(2000):
        blocks = blocks_of(random.random(n).tolist())
        above.append(
            1 - blocks.threshold(per_block * blocks.per_unit)
        )  # uniform scores
    assert np.mean(above) <= per_block * 1.05
    assert np.mean(above) == pytest.approx(per_block, rel=0.08)


def test_equal_scores_raise_no_alarm_at_the_threshold():
    blocks = blocks_of([0.0] * 30 + [0.4] * 9)
    threshold = blocks.threshold(0.1 * blocks.per_unit)
    assert threshold == 0.4
    assert blocks.rate_above(threshold).blocks == 0
    assert blocks.rate_at(0.4).blocks == 9


def test_a_wish_that_needs_more_hours_is_refused():
    blocks = blocks_of([0.1] * 120)
    with pytest.raises(InputError, match=r"^2.00 h .*needs 24.0 h.* 12 per day"):
        blocks.threshold(1.0)
    message = str(pytest.raises(InputError, blocks.threshold, 1.0).value)
    supported = float(message.split("wish for ")[1].split()[0])
    assert blocks.threshold(supported) == 0.1


def test_the_hours_that_a_refusal_names_are_enough():
    assert blocks_of([0.2] * 1439).threshold(1.0) == 0.2  # 24 hours, less a block
    with pytest.raises(InputError):
        blocks_of([0.2] * 1438).threshold(1.0)


def test_more_than_one_alarm_per_block_is_no_wish():
    with pytest.raises(InputError, match="fewer than 1440, or shorter blocks"):
        blocks_of([0.1] * 50).threshold(1440.0)


def test_no_recording_is_no_data():
    with pytest.raises(InputError, match=r"0.00 h"):
        blocks_of([]).threshold(1.0)


def test_rates_have_the_interval_of_clopper_and_pearson():
    blocks = blocks_of([i / 100 for i in range(100)])
    none, five = blocks.rate_at(1.0), blocks.rate_at(0.95)
    assert none.expected == pytest.approx(1440 / 101) and none.low == 0
    assert none.high == pytest.approx(1440 * (1 - 0.025**0.01))
    assert str(none).startswith(
        "fewer than 14.3; none in the recordings (95 % interval"
    )
    # The table of Clopper and Pearson: 5 of 100.
    assert five.low / 1440 == pytest.approx(0.0164, abs=1e-4)
    assert five.high / 1440 == pytest.approx(0.1128, abs=1e-4)
    assert five.low < five.expected < five.high
    many = str(AlarmRate(4321.4, 456.2, 7374.0, 3))
    assert many == "4320 (95 % interval 456 to 7370)"
    assert five.as_dict() == {"expected": 85.5, "low": 23.7, "high": 162, "blocks": 5}


def test_further_alarms_are_within_their_interval_as_often_as_promised():
    random = np.random.default_rng(1)
    held, widths = [], []
    for _ in range(300):
        blocks = blocks_of(random.random(60).tolist())
        threshold = blocks.threshold(0.1 * blocks.per_unit)
        low, high = blocks.alarms_within(threshold, 60)
        held.append(low <= np.sum(random.random(60) > threshold) <= high)
        widths.append(high - low)
    assert np.mean(held) >= 0.95
    assert np.mean(widths) < 20


def test_where_each_video_is_a_block_rates_are_per_100_videos():
    recordings = [
        Recording("a", 3.0, ((1.0, 0.3), (2.0, 0.7))),
        Recording("b", 900.0, ()),
        *(Recording(str(i), 5.0, ((1.0, 0.1),)) for i in range(17)),
    ]
    blocks = BlockScores.of_recordings(recordings, None)
    assert blocks.maxima == (0.0, *[0.1] * 17, 0.7)
    assert blocks.threshold(5.0) == 0.7 and blocks.threshold(10.0) == 0.1
    rate = blocks.rate_above(0.1)
    assert rate.expected == 100 * 2 / 20 and rate.key == "false_alarms_per_100_videos"
    with pytest.raises(InputError, match="^19 ordinary videos can't support 1 false "):
        blocks.threshold(1.0)
    message = str(pytest.raises(InputError, blocks.threshold, 1.0).value)
    assert (
        "per 100 videos: that needs 99 videos; record more, or wish for 5 " in message
    )


def test_without_a_block_no_wish_is_named():
    with pytest.raises(InputError, match="needs 24.0 h; record more$"):
        blocks_of([]).threshold(1.0)
