"""Draws the scores, events and classes of one video as a picture."""

import pathlib
from typing import TYPE_CHECKING

import numpy as np

from wsvad_jax.utils.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from wsvad_jax.detection.result import DetectionResult


def picture(path: pathlib.Path, answer: DetectionResult) -> None:
    """Draws the score over time with events found and true, and the classes' part."""
    from matplotlib.figure import Figure

    from wsvad_jax.evaluation.plots import STYLE
    from wsvad_jax.utils.fonts import drawable, drawing

    names = answer.class_names[1:] if answer.classes is not None else ()
    texts = [answer.name, *names, *(event.category for event in answer.events)]
    strip = 0.5 + 0.21 * len(names) if names else 0.0
    with drawing(STYLE, texts):
        figure = Figure((12, 3.1 + strip), layout="constrained")
        heights = [2.6, strip] if names else [1]
        axes = figure.subplots(
            len(heights), 1, sharex=True, height_ratios=heights, squeeze=False
        )[:, 0]
        _draw_score(axes[0], answer)
        axes[0].set_title(drawable(answer.name), fontsize=11, weight="bold")
        if names:
            _draw_classes(figure, axes[1], answer, names)
        axes[-1].set_xlabel("seconds")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=100, facecolor="white")


def _draw_score(ax: "Axes", answer: DetectionResult) -> None:
    from wsvad_jax.evaluation.plots import INK, SCORE, TRUTH
    from wsvad_jax.utils.fonts import drawable

    edges, end = answer.edges, max(float(answer.edges[-1]), 1e-3)
    for n, event in enumerate(answer.ground_truth or ()):
        label = None if n else "true event"
        ax.axvspan(
            event.start, event.end, color=TRUTH, alpha=0.2, linewidth=0, label=label
        )
    ax.stairs(answer.anomaly, edges, color=SCORE, alpha=0.13, fill=True)
    ax.stairs(answer.anomaly, edges, baseline=None, color=SCORE, linewidth=1.5)
    for n, event in enumerate(answer.events):
        label = None if n else "event found"
        ax.plot([event.start, event.end], [1.06, 1.06], color=INK, lw=4, label=label)
        middle = (event.start + event.end) / 2 / end
        ax.text(
            min(max(middle, 0.05), 0.95) * end,
            0.99 if n % 2 else 0.93,  # neighbours on two lines
            f"{drawable(event.category)[:24]} {event.score:.0%}",
            transform=ax.get_xaxis_transform(),
            ha="center",
            va="top",
            fontsize=7.5,
        )
    ax.set_xlim(0, end)
    ax.set_ylim(-0.02, 1.3)
    ax.set_yticks([0, 0.5, 1])
    ax.set_ylabel("anomaly score")
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    if answer.events or answer.ground_truth:
        ax.figure.legend(loc="outside upper right", ncols=3)


def _draw_classes(figure: "Figure", ax: "Axes", answer: DetectionResult, names) -> None:
    """Draws a strip a class: its probability over time."""
    from wsvad_jax.utils.fonts import drawable

    assert answer.classes is not None
    rows = np.arange(len(names) + 1)
    image = ax.pcolormesh(
        answer.edges, rows, answer.classes[:, 1:].T, cmap="Blues", vmin=0, vmax=1
    )
    ax.invert_yaxis()
    ax.set_yticks(rows[:-1] + 0.5, [drawable(name)[:20] for name in names])
    ax.tick_params(axis="y", length=0)
    figure.colorbar(image, ax=ax, label="probability", pad=0.01, ticks=[0, 0.5, 1])
