"""Draws the scores, events and classes of one video as a picture."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from wsvad_jax.detection.report.svg_timeline import tick_step
from wsvad_jax.detection.result import DetectionResult
from wsvad_jax.evaluation.plots import INK, SCORE, STYLE, TRUTH
from wsvad_jax.utils.files import atomic_path
from wsvad_jax.utils.fonts import drawable, drawing
from wsvad_jax.utils.text import clock

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def write_picture(path: pathlib.Path, result: DetectionResult) -> None:
    """Writes a PNG: scores over time, detected and true events, class probabilities."""
    from matplotlib.figure import Figure

    names = result.class_names[1:] if result.classes is not None else ()
    texts = [result.name, *names, *(event.category for event in result.events)]

    # A class takes one row; a model without classes has the scores alone.
    strip = 0.5 + 0.21 * len(names) if names else 0.0
    heights = [2.6, strip] if names else [1]

    with drawing(STYLE, texts):
        figure = Figure((12, 3.1 + strip), layout="constrained")
        axes = figure.subplots(
            len(heights), 1, sharex=True, height_ratios=heights, squeeze=False
        )[:, 0]

        _draw_scores(axes[0], result)
        axes[0].set_title(drawable(result.name), fontsize=11, weight="bold")
        if names:
            _draw_classes(figure, axes[1], result, names)
        _show_clock(axes[-1], float(result.edges[-1]))

        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=100, facecolor="white")


def _show_clock(ax: "Axes", end: float) -> None:
    """Shows times as the page does, 0:07 or 1:02:30."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    ax.xaxis.set_major_locator(MultipleLocator(tick_step(end)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda t, _: clock(t)))
    ax.set_xlabel("time (hours:minutes:seconds)" if end >= 3600 else "minutes:seconds")


def _draw_scores(ax: "Axes", result: DetectionResult) -> None:
    edges, end = result.edges, max(float(result.edges[-1]), 1e-3)

    # Only the first event of each kind has a label, so the legend has one entry.
    for n, event in enumerate(result.ground_truth or ()):
        label = None if n else "true event"
        ax.axvspan(
            event.start, event.end, color=TRUTH, alpha=0.2, linewidth=0, label=label
        )

    # A line over its own faint area.
    ax.stairs(result.anomaly, edges, color=SCORE, alpha=0.13, fill=True)
    ax.stairs(
        result.anomaly,
        edges,
        baseline=None,
        color=SCORE,
        linewidth=1.5,
        label="anomaly score",
    )

    for n, event in enumerate(result.events):
        label = None if n else "detected event"
        ax.plot([event.start, event.end], [1.06, 1.06], color=INK, lw=4, label=label)
        middle = (event.start + event.end) / 2 / end
        ax.text(
            min(max(middle, 0.05), 0.95) * end,
            0.99 if n % 2 else 0.93,  # neighbours on two lines
            f"{drawable(event.category)[:24]} {event.score:.2f}",
            transform=ax.get_xaxis_transform(),
            ha="center",
            va="top",
            fontsize=7.5,
        )

    # The space above 1 is for the events.
    ax.set_xlim(0, end)
    ax.set_ylim(-0.02, 1.3)
    ax.set_yticks([0, 0.5, 1])
    ax.set_ylabel("anomaly score")
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    ax.figure.legend(loc="outside upper right", ncols=3)


def _draw_classes(
    figure: "Figure", ax: "Axes", result: DetectionResult, names: Sequence[str]
) -> None:
    """Draws one strip per class: its probability over time."""
    assert result.classes is not None
    rows = np.arange(len(names) + 1)
    image = ax.pcolormesh(
        result.edges, rows, result.classes[:, 1:].T, cmap="Blues", vmin=0, vmax=1
    )

    # The first class on top, as on the page.
    ax.invert_yaxis()
    ax.set_yticks(rows[:-1] + 0.5, [drawable(name)[:20] for name in names])
    ax.tick_params(axis="y", length=0)
    figure.colorbar(image, ax=ax, label="probability", pad=0.01, ticks=[0, 0.5, 1])
