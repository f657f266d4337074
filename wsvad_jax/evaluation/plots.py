"""Draws the scores of test videos over time, and a training's losses and metrics.

True anomalies are shaded in one colour and named in words, so that a reader need not
distinguish many colours. The colours are Okabe and Ito's.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.metrics.frame_level import STRIDE, THRESHOLD, EvalVideo
from wsvad_jax.utils.files import atomic_path
from wsvad_jax.utils.fonts import drawable, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCORE, TRUTH = "#0072B2", "#D55E00"
LINES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
INK, PALE = "#262626", "#6E6E6E"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#B5B5B5",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # else Matplotlib searches a place for each title
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "text.parse_math": False,  # names of videos may contain a $
    "xtick.color": PALE,
    "ytick.color": PALE,
}
PANELS, COLUMNS = 12, 4  # number of drawn videos, and of those side by side
# Sizes in inches. They are fixed, since measuring all texts takes as long as drawing.
WIDTH, HEADING, ROW, HISTORY = 14.0, 0.45, 1.85, 2.8
LEFT, RIGHT, ABOVE, BELOW = 0.6, 0.1, 0.22, 0.45  # margins of a row of axes
# Keys of metrics.jsonl that are no terms of the loss.
NO_TERMS = {"step", "epoch", "loss", "grad_norm", "learning_rate", "steps_per_second"}
SHOWN = ("auc", "ano_auc", "ap", "video_auc", "map_avg")  # metrics that are drawn


def report_png(
    path: str | os.PathLike,
    videos: Sequence[EvalVideo],
    history: Sequence[Mapping[str, Any]],
    *,
    title: str,
    class_names: Sequence[str],
    stride: int = STRIDE,
) -> None:
    """Writes the picture of a finished training, whole or not at all.

    Args:
      path: PNG file to write.
      videos: scored test videos; `choose_videos` picks about twelve.
      history: lines of metrics.jsonl; [] omits losses and metrics.
      title: title of the picture.
      class_names: class names, normal first.
      stride: frames per snippet.
    """
    from matplotlib.figure import Figure

    chosen = choose_videos(videos)
    columns = min(COLUMNS, max(len(chosen), 1))
    rows = max(-(-len(chosen) // columns), 1)

    # Losses and metrics go below the videos.
    losses, metrics = _losses(history), _metrics(history)
    upper = HEADING + ROW * rows
    lower = HISTORY if losses or metrics else 0.0

    with drawing(STYLE, [title, *class_names, *(v.video for v in chosen)]):
        figure = Figure((WIDTH, upper + lower))
        _draw_heading(figure, title)
        _draw_videos(figure, chosen, (rows, columns), class_names, stride)
        if lower:
            _draw_history(figure, upper, losses, metrics)
        _save(figure, path)


def choose_videos(videos: Sequence[EvalVideo], count: int = PANELS) -> list[EvalVideo]:
    """Picks about two thirds abnormal videos, the rest normal.

    Classes take turns; each gives its video with the highest score. Of the normal
    videos, half have the highest scores, to show false alarms; half are typical.
    """
    ranked = sorted(videos, key=lambda v: (-v.anomaly.max(), v.video))

    # Each class's first video comes before any class's second.
    abnormal, turns = [], {}
    for v in ranked:
        if v.abnormal:
            main = min(c for c in v.label if c > 0)
            turns[main] = turns.get(main, 0) + 1
            abnormal.append((turns[main], main, v))
    abnormal = [v for _, _, v in sorted(abnormal, key=lambda row: row[:2])]

    # Typical videos are those around the middle of the ranks that are left.
    normal = [v for v in ranked if not v.abnormal]
    wanted = max(count - len(abnormal), min(count // 3, len(normal)))
    highest = normal[: -(-wanted // 2)]
    rest = normal[len(highest) :]
    middle = max((len(rest) - wanted // 2) // 2, 0)
    typical = rest[middle : middle + wanted // 2]

    return abnormal[: count - len(highest) - len(typical)] + highest + typical


def _save(figure: "Figure", path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, facecolor="white", metadata={})


def _axes(figure, shape, top, height, *, gap=0.25, right=RIGHT, sharey=False):
    """Returns axes [rows, columns] whose first row begins `top` inches from the top.

    Each row is `height` inches high. There are `gap` inches between columns and `right`
    inches beside the last one.
    """
    (rows, columns), (width, total) = shape, figure.get_size_inches()
    each = (width - LEFT - right - (columns - 1) * gap) / columns
    grid = figure.add_gridspec(
        rows,
        columns,
        left=LEFT / width,
        right=1 - right / width,
        top=1 - (top + ABOVE) / total,
        bottom=1 - (top + rows * height - BELOW) / total,
        wspace=gap / each,
        hspace=(ABOVE + BELOW) / (height - ABOVE - BELOW),
    )
    return grid.subplots(squeeze=False, sharey=sharey)


def _draw_heading(figure, title):
    y = 1 - 0.5 * HEADING / figure.get_figheight()
    heading = figure.text(0.01, y, drawable(title), va="center")
    heading.set(fontsize=14, weight="bold")


def _draw_videos(figure, videos, shape, class_names, stride):
    """Draws a grid of videos, each with its classes and its name above."""
    columns = shape[1]
    axes = _axes(figure, shape, HEADING, ROW, sharey=True)
    for ax, v in zip(axes.flat, videos, strict=False):
        _draw_curve(ax, v, class_names, stride)

        # Class at the left, video at the right: a long class leaves it less room.
        classes = [class_names[c] for c in v.label if c > 0] or [class_names[0]]
        named = ax.set_title(_short(" + ".join(classes), 24), weight="bold")
        named.set_color("#A84300" if v.abnormal else INK)
        note = "" if v.known else "no ground truth · "
        room = max(44 - len(named.get_text()) - len(note), 8)
        text = note + _short(v.video, room)
        ax.set_title(text, loc="right", fontsize=8, color=PALE)

    # Axes have their titles only at the left and at the bottom of the grid.
    for ax in axes.flat[len(videos) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("anomaly score")
    for i, ax in enumerate(axes.flat[: len(videos)]):
        if i + columns >= len(videos):  # nothing is below it
            ax.set_xlabel("frame")

    shaded = any(c > 0 for v in videos for *_, c in v.segments)
    figure.legend(*_handles(axes[0, 0], shaded), loc="upper right", ncols=5)


def _draw_curve(ax: "Axes", video, class_names, stride):
    """Draws the score curves over the shaded ground truth, with time in frames."""
    edges = np.arange(len(video.anomaly) + 1) * stride

    # Later curves cover earlier ones, so the score is drawn last.
    events = [segment for segment in video.segments if segment[2] > 0]
    for start, end, _ in events:
        ax.axvspan(start, min(end, edges[-1]), color=TRUTH, alpha=0.2, linewidth=0)
    for color, (name, scores) in zip(LINES[2:], video.extra.items(), strict=False):
        ax.stairs(scores, edges, baseline=None, color=color, linewidth=1, label=name)
    ax.stairs(video.anomaly, edges, color=SCORE, alpha=0.13, fill=True)
    ax.stairs(
        video.anomaly, edges, baseline=None, color=SCORE, linewidth=1.5, label="score"
    )

    ax.axhline(THRESHOLD, color=PALE, linestyle=(0, (4, 3)), linewidth=0.8)
    ax.set_xlim(0, edges[-1])
    curves = [video.anomaly, *video.extra.values()]
    low, high = min(c.min() for c in curves), max(c.max() for c in curves)
    ax.set_ylim(min(low, 0) - 0.02, max(high, 1) * 1.04)

    # Few ticks: text takes most of the time that a picture of twelve panels takes.
    ax.locator_params("x", nbins=4)
    ax.locator_params("y", nbins=2)
    ax.grid(axis="y")
    ax.set_axisbelow(True)

    # With a single class, the title says it.
    if len({c for *_, c in events}) > 1:
        _name_events(ax, events, class_names, edges[-1])


def _name_events(ax, events, class_names, end):
    """Writes each event's class into its shade, where no other name is close."""
    last: dict[int, tuple[float, float]] = {}  # class → position of its last name
    for start, stop, c in sorted(events):
        middle = (start + min(stop, end)) / 2 / end
        if c in last and middle - last[c][0] < 0.2:
            continue  # the name of the same class is close enough

        # The first line without another name nearby.
        taken = {y for x, y in last.values() if middle - x < 0.25}
        y = next((y for y in (0.97, 0.84, 0.71) if y not in taken), 0.58)
        last[c] = middle, y

        ax.text(
            min(max(middle, 0.08), 0.92),
            y,
            _short(class_names[c], 14),
            transform=ax.transAxes,
            ha="center",
            va="top",
            fontsize=7.5,
            color="#8A3700",
        )


def _handles(ax, shaded=True):
    """Returns handles and labels of the legend: curves, shade and threshold."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    # The score is drawn last and listed first.
    curves, labels = ax.get_legend_handles_labels()
    curves, labels = curves[::-1], labels[::-1]
    handles: list[Any] = [Line2D([], [], color=c.get_edgecolor()) for c in curves]
    if shaded:
        handles.append(Patch(color=TRUTH, alpha=0.2))
        labels.append("true anomaly")

    handles.append(Line2D([], [], color=PALE, linestyle=(0, (4, 3)), linewidth=0.8))
    return handles, [*labels, f"threshold {THRESHOLD}"]


def _losses(history):
    """Returns name → (steps, values) for the loss and its terms."""
    points: dict[str, list] = {}
    for row in history:
        for name, value in row.items():
            term = name == "loss" or name not in NO_TERMS
            if "/" not in name and term and isinstance(value, int | float):
                points.setdefault(name, []).append((row["step"], value))
    return {name: np.array(p, float).T for name, p in points.items()}


def _metrics(history):
    """Returns name → (steps, values) for the evaluations during training, in %."""
    points: dict[str, list] = {}
    for row in history:
        for name, value in row.items():
            _, _, short = name.rpartition("/")
            if "/" in name and short in SHOWN and isinstance(value, int | float):
                points.setdefault(name, []).append((row["step"], 100 * value))
    return {name: np.array(p, float).T for name, p in points.items()}


def _draw_history(figure, top, losses, metrics):
    shown = [s for s in ((losses, _draw_losses), (metrics, _draw_metrics)) if s[0]]
    longest = max(len(name) for name in (*losses, *metrics))
    legend = 0.7 + 0.08 * longest  # its width in inches
    shape = (1, len(shown))
    axes = _axes(
        figure, shape, top + 0.1, HISTORY - 0.1, gap=LEFT + legend, right=legend
    )[0]
    for ax, (series, draw) in zip(axes, shown, strict=True):
        draw(ax, series)
        ax.set_xlabel("step")
        ax.grid(axis="y")
        ax.set_axisbelow(True)
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.03), fontsize=8.5)


def _draw_losses(ax, losses):
    """Draws running means, with the single steps faintly behind them."""
    terms = [name for name in losses if name != "loss"]
    colors = dict(zip(terms, LINES * len(terms), strict=False))
    for name in [*(n for n in ("loss",) if n in losses), *terms]:
        steps, values = losses[name]
        color, width = (INK, 2.0) if name == "loss" else (colors[name], 1.2)

        # About fifty independent means, however long the training was.
        window = max(len(values) // 50, 1)
        if window > 1:
            ax.plot(steps, values, color=color, linewidth=0.5, alpha=0.2)
        kernel = np.ones(window)
        mean = np.convolve(values, kernel, "same")
        mean /= np.convolve(np.ones(len(values)), kernel, "same")
        label = "total" if name == "loss" else name
        ax.plot(steps, mean, color=color, linewidth=width, label=label)

    # Terms differ by orders of magnitude; regularisers may be negative.
    positive = all((values > 0).all() for _, values in losses.values())
    ax.set_yscale("log" if positive else "linear")
    if positive:  # plain numbers, since powers need the math parser
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.yaxis.set_minor_formatter(lambda value, _: "")
    scale = ", log scale" if positive else ""
    ax.set_title(f"training loss and its terms{scale}", weight="bold")


def _draw_metrics(ax, metrics):
    for color, (name, (steps, values)) in zip(
        LINES[1:] * len(metrics), metrics.items(), strict=False
    ):
        ax.plot(steps, values, color=color, marker="o", markersize=3.5, label=name)
    ax.set_title("evaluation during training, %", weight="bold")


def _short(text, most):
    """Shortens a name in the middle, since names differ at both ends."""
    text = drawable(text)
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[: most - 1 - half]}…{text[-half:]}"
