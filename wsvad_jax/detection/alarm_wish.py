"""The user's wish for false alarms, which `calibrate` finds a threshold for."""

import dataclasses

from wsvad_jax.metrics.alarm_rates import BlockScores
from wsvad_jax.utils.errors import InputError

BLOCK = 60.0  # seconds; longer than nearly all events
SHORTEST, LONGEST = 10.0, 86_400.0  # block, in seconds


@dataclasses.dataclass(frozen=True)
class AlarmWish:
    """Most false alarms per day, and how time is counted."""

    per_day: float
    block: float = BLOCK  # seconds
    live: bool = False  # whether scores are those of `--live`


def check_wish(wish: AlarmWish) -> None:
    """Raises InputError for a wish that no recordings can fulfil.

    Args:
      wish: values of the user, as flags of `calibrate`.
    """
    if not 0 < wish.per_day < float("inf"):
        raise InputError(
            f"--false_alarms_per_day is {wish.per_day:g}; expected more than 0"
        )
    if not SHORTEST <= wish.block <= LONGEST:
        raise InputError(
            f"--block is {wish.block:g}; expected {SHORTEST:g} to {LONGEST:g} seconds, "
            "longer than an event"
        )

    try:
        BlockScores(wish.block, ()).threshold(wish.per_day)
    except InputError as e:
        if wish.per_day * wish.block >= LONGEST:
            raise InputError(f"--false_alarms_per_day: {e}") from None
