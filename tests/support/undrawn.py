"""Training without its picture: report.png takes half of a toy run's time."""

import pathlib
from typing import Any

import pytest

from wsvad_jax.evaluation import plots


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Makes report.png an empty file, for tests that don't look at it."""

    def empty(path: Any, *_: Any, **__: Any) -> None:
        pathlib.Path(path).write_bytes(b"")

    patch.setattr(plots, "report_png", empty)
