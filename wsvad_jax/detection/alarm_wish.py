"""The user's wish for false alarms, which `calibrate` finds a threshold for."""

import dataclasses

from wsvad_jax.metrics.alarm_rates import DAY, VIDEOS, BlockScores
from wsvad_jax.utils.errors import InputError

PER_DAY = 1.0  # false alarms, if the user wishes for nothing
BLOCK = 60.0  # seconds; longer than nearly all events
SHORTEST, LONGEST = 10.0, DAY  # block, in seconds
RAREST = 0.001  # wish; one false alarm per day needs 24 hours, this one 24,000


@dataclasses.dataclass(frozen=True)
class AlarmWish:
    """Most false alarms, and how they are counted."""

    rate: float  # per day; per 100 videos where each block is a video
    block: float | None = BLOCK  # seconds; None: each video is a block
    live: bool = False  # whether scores are those of `--live`


def wish_of(
    per_day: float | None,
    per_videos: float | None,
    block: float | None,
    live: bool,
) -> AlarmWish:
    """Returns the wish that the flags of `calibrate` name; None is a flag left out.

    Args:
      per_day: most false alarms per day.
      per_videos: most false alarms per 100 videos, of which each is a block.
      block: seconds of a block.
      live: whether scores are those of `--live`.

    Raises:
      InputError: both wishes, one that no recordings can fulfil, or flags without effect.
    """
    if per_videos is None:
        rate = PER_DAY if per_day is None else per_day
        wish = AlarmWish(rate, BLOCK if block is None else block, live)
        check_wish(wish)
        return wish

    # Separate videos have no common time.
    flag = "--false_alarms_per_100_videos"
    if per_day is not None:
        raise InputError(
            f"--false_alarms_per_day, {flag}: days are for recordings of one camera, 100 "
            "videos for separate clips; pass one of them"
        )
    if block is not None:
        raise InputError(f"--block has no effect with {flag}: each video is a block")
    if live:
        raise InputError(
            f"--live has no effect with {flag}: a live source isn't cut into videos; "
            "pass --false_alarms_per_day"
        )
    wish = AlarmWish(per_videos, None)
    check_wish(wish)
    return wish


def check_wish(wish: AlarmWish) -> None:
    """Raises InputError for a wish that no recordings can fulfil.

    Args:
      wish: values of the user, as flags of `calibrate`.
    """
    blocks = BlockScores(wish.block, ())
    flag = f"--false_alarms_{blocks.unit.replace(' ', '_')}"
    if not 0 < wish.rate < float("inf"):
        raise InputError(f"{flag} is {wish.rate:g}; expected more than 0")
    if wish.rate < RAREST:
        raise InputError(
            f"{flag} is {wish.rate:g}; expected {RAREST:g} or more, since fewer need more "
            "recordings than there are"
        )
    if wish.block is None:
        if wish.rate >= VIDEOS:
            raise InputError(
                f"{flag} is {wish.rate:g}; expected fewer than {VIDEOS}, since several "
                "events of one video are one alarm"
            )
        return

    if not SHORTEST <= wish.block <= LONGEST:
        raise InputError(
            f"--block is {wish.block:g}; expected {SHORTEST:g} to {LONGEST:g} seconds, "
            "longer than an event"
        )
    try:
        blocks.threshold(wish.rate)
    except InputError as e:
        if wish.rate * wish.block >= LONGEST:
            raise InputError(f"{flag}: {e}") from None
