"""Reads the metrics that a training wrote per step, metrics.jsonl."""

import json
import os
import pathlib
from typing import Any

FILE = "metrics.jsonl"


def read_history(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """Returns the lines of a workdir's metrics.jsonl; [] if there is none.

    Incomplete lines, left by a killed process, are skipped.
    """
    path = pathlib.Path(workdir) / FILE
    if not path.exists():
        return []

    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        # A cut line may still be valid JSON, as a number.
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows
