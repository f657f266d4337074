"""What the files of a run must hold: a recipe, results, a summary of seeds.

They may come from others, so every value that tables and pages show is looked at.
"""

import pathlib
import re
from typing import Any

from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json

IOUS = ("0.1", "0.2", "0.3", "0.4", "0.5")
TEXTS = ("model", "dataset", "protocol", "selection", "checkpoint", "device")
DRAWN = re.compile(r"[01]\.\d+( [01]\.\d+)*")  # values of resamples


def is_valid_result(key: str, value: Any) -> bool:
    """Whether a value is of the kind that results.json has under `key`."""
    if key in ("seed", "step"):
        return type(value) is int and value >= 0 or (key == "step" and value is None)
    if key == "map":
        return value is None or _numbers(value, len(IOUS))
    if key in TEXTS:
        return _is_text(value)
    if key == "remarks":
        return isinstance(value, list) and all(map(_is_text, value))
    return value is None or isinstance(value, bool | str | dict) or is_number(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < 1e15  # finite


def read_summary(path: pathlib.Path) -> dict[str, Any]:
    """Reads what a study of seeds left (`wsvad_jax.results.seeds`).

    Raises:
      InputError: no such file.
    """
    value = read_json(path)
    known = value if isinstance(value, dict) else {}
    seeds, metrics = known.get("seeds"), known.get("metrics")
    named = all(isinstance(known.get(k), str) for k in ("dataset", "model", "protocol"))
    numbered = isinstance(seeds, list) and all(type(s) is int for s in seeds)
    if not named or not numbered or not isinstance(metrics, dict):
        raise InputError(f"{path}: expected the summary of a study of seeds")
    bootstrap = known.get("bootstrap", {})
    drawn = bootstrap.get("values", {}) if isinstance(bootstrap, dict) else None
    if not isinstance(drawn, dict) or not all(
        map(DRAWN.fullmatch, map(str, drawn.values()))
    ):
        raise InputError(f"{path}: its bootstrap holds no numbers")
    count = len(known["seeds"])
    for name, metric in metrics.items():
        found = metric if isinstance(metric, dict) else {}
        interval = found.get("interval") or [0, 0]
        good = _numbers(found.get("seeds"), count) and _numbers(interval, 2)
        if not good or None in interval:
            raise InputError(
                f"{path}: {name} lacks a number of each seed or an interval [low, "
                "high]; make the summary again with train --seeds"
            )
    return value


def _numbers(value: Any, count: int) -> bool:
    """Whether `value` lists `count` numbers, some of which may be unknown."""
    return (
        isinstance(value, list)
        and len(value) == count
        and all(v is None or is_number(v) for v in value)
    )
