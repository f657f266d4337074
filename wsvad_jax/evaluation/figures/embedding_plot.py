"""Draws snippets, and class texts among them, as points in a plane."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from wsvad_jax.evaluation.figures import style
from wsvad_jax.utils.fonts import drawable, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEGEND_LINE = 0.165  # inches per line of the legend


def draw_embedding(
    folder: pathlib.Path,
    name: str,
    points: Float[np.ndarray, "S 2"],
    category: Int[np.ndarray, "S"],
    texts: Float[np.ndarray, "C 2"] | None,
    class_names: Sequence[str],
    title: str,
) -> list[str]:
    """Writes the figure of one embedding; returns the names of its files.

    Args:
      folder: folder of the files.
      name: name of the files without their ending.
      points: positions of the snippets.
      category: class of each snippet, 0 normal.
      texts: positions of the class texts; None without any.
      class_names: names of the classes, normal first.
      title: title of the figure.
    """
    from matplotlib.figure import Figure

    labels = [short_name(text) for text in class_names]
    columns = legend_columns(labels)
    lines = -(-(len(labels) + (texts is not None)) // columns)

    with drawing(style.STYLE, [title, *class_names]):
        height = style.WIDTH + 0.3 + LEGEND_LINE * lines
        figure = Figure((style.WIDTH, height), layout="constrained")
        ax = figure.subplots()

        _draw_points(ax, points, category)
        if texts is not None:
            _draw_texts(ax, texts)

        # Units of the axes mean nothing, but both are of one scale.
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_xticks([])
        ax.set_yticks([])
        for side in ("top", "right"):
            ax.spines[side].set_visible(True)
        ax.set_title(drawable(title))
        figure.legend(
            *_legend(labels, texts is not None),
            loc="outside lower center",
            ncols=columns,
            columnspacing=1.0,
            handletextpad=0.3,
            borderpad=0.1,
        )
        return style.save(figure, folder, name)


def _draw_points(ax: "Axes", points: np.ndarray, category: np.ndarray) -> None:
    # Normal snippets are many, so anomalies are drawn over them.
    for c in np.unique(category).tolist():
        ax.scatter(
            *points[category == c].T,
            s=5 if c == 0 else 9,
            color=style.class_color(c),
            marker=style.class_marker(c),
            linewidths=0,
            alpha=0.6 if c == 0 else 0.85,
        )


def _draw_texts(ax: "Axes", texts: np.ndarray) -> None:
    from matplotlib.patheffects import Normal, Stroke

    # A white ring inside the black one, since a class may be black.
    rings = [Stroke(linewidth=3.4, foreground="black"), Normal()]
    for c, place in enumerate(texts):
        ax.scatter(
            *place,
            s=60,
            color=style.class_color(c),
            marker=style.class_marker(c),
            edgecolors="white",
            linewidths=1.0,
            path_effects=rings,
            zorder=3,
        )


def _legend(labels, with_texts):
    """Returns handles and labels: the classes, and what an outline means."""
    from matplotlib.lines import Line2D

    def handle(c, **look):
        marker, color = style.class_marker(c), style.class_color(c)
        return Line2D([], [], linestyle="", marker=marker, color=color, **look)

    handles = [handle(c, markersize=5, markeredgewidth=0) for c, _ in enumerate(labels)]
    if with_texts:
        look = {"markerfacecolor": "white", "markeredgecolor": "black"}
        handles.append(handle(0, markersize=7, markeredgewidth=1.2, **look))
        labels = [*labels, "class text"]
    return handles, labels


def legend_columns(labels: Sequence[str]) -> int:
    """Returns how many columns of a legend fit below a figure."""
    widest = max(map(len, labels))
    # About 0.062 inches per letter, and 0.25 for the mark.
    return max(int(style.WIDTH / (0.062 * widest + 0.28)), 1)


def short_name(text: str, most: int = 24) -> str:
    """Returns a class name as a figure shows it."""
    text = drawable(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"
