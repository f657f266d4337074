"""What a model says about one video, and the files that say it on."""

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from wsvad_jax.events import Event
from wsvad_jax.files import atomic_path, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Answer:
    """Scores and events of one video. T snippets, C classes (0 is normal)."""

    name: str  # unique among the videos of a report
    path: pathlib.Path | None  # the video file; None where only features were given
    edges: Float[np.ndarray, "T1"]  # seconds; snippet t lasts from edges[t] to [t + 1]
    anomaly: Float[np.ndarray, "T"]  # in [0, 1]
    classes: Float[np.ndarray, "T C"] | None  # probabilities
    class_names: tuple[str, ...]  # of the card, normal first
    events: tuple[Event, ...]
    truth: tuple[Event, ...] | None = None  # None: not known
    damage: str = ""  # what of the video could not be read
    remark: str = ""  # what the reader of the video decided

    @property
    def warnings(self) -> list[str]:
        """What is to be said about how the video was read."""
        damage = self.damage and f"damaged, {self.damage}"
        return [said for said in (damage, self.remark) if said]


def write_events_json(
    path: pathlib.Path, answers: Sequence[Answer], settings: Mapping[str, object]
) -> None:
    """Writes all that was found: events and, of every snippet, time and score.

    Args:
      path: of the file.
      answers: one a video.
      settings: name → value, as they were used.
    """
    videos = ",\n".join(_video_json(answer) for answer in answers)
    head = json.dumps(dict(settings), ensure_ascii=False, default=str)
    write_text(path, f'{{"settings": {head},\n "videos": [\n{videos}\n]}}\n')


def _video_json(answer: Answer) -> str:
    truth = answer.truth
    value = {
        "video": answer.name,
        "path": None if answer.path is None else str(answer.path),
        "duration": round(float(answer.edges[-1]), 3),
        "damage": answer.damage,
        "remark": answer.remark,
        "events": [event_json(event) for event in answer.events],
        "truth": None if truth is None else [_truth_json(event) for event in truth],
        "seconds": np.round(answer.edges, 3).tolist(),
        "anomaly": np.round(answer.anomaly.astype(np.float64), 4).tolist(),
    }
    lines = [
        f'"{key}": {json.dumps(part, ensure_ascii=False)}'
        for key, part in value.items()
    ]
    return "  {" + ",\n   ".join(lines) + "}"


def event_json(event: Event) -> dict[str, object]:
    """Returns an event as it stands in events.json: seconds and score rounded."""
    found = _truth_json(event)
    return found | {"score": round(event.score, 4), "peak": round(event.peak, 3)}


def _truth_json(event: Event) -> dict[str, object]:
    start, end = round(event.start, 3), round(event.end, 3)
    return {"start": start, "end": end, "class": event.category}


def write_events_csv(path: pathlib.Path, answers: Sequence[Answer]) -> None:
    """Writes a line an event: video, start, end (seconds), class, score, peak."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    keys = ("start", "end", "class", "score", "peak")
    writer.writerow(["video", *keys])
    for answer in answers:
        for event in map(event_json, answer.events):
            writer.writerow([answer.name, *(event[key] for key in keys)])
    write_text(path, text.getvalue())


def picture(path: pathlib.Path, answer: Answer) -> None:
    """Draws the score over time with events found and true, and the classes' part."""
    from matplotlib.figure import Figure

    from wsvad_jax.fonts import drawable, drawing
    from wsvad_jax.plots import STYLE

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


def _draw_score(ax: "Axes", answer: Answer) -> None:
    from wsvad_jax.fonts import drawable
    from wsvad_jax.plots import INK, SCORE, TRUTH

    edges, end = answer.edges, max(float(answer.edges[-1]), 1e-3)
    for n, event in enumerate(answer.truth or ()):
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
    if answer.events or answer.truth:
        ax.figure.legend(loc="outside upper right", ncols=3)


def _draw_classes(figure: "Figure", ax: "Axes", answer: Answer, names) -> None:
    """Draws a strip a class: its probability over time."""
    from wsvad_jax.fonts import drawable

    assert answer.classes is not None
    rows = np.arange(len(names) + 1)
    image = ax.pcolormesh(
        answer.edges, rows, answer.classes[:, 1:].T, cmap="Blues", vmin=0, vmax=1
    )
    ax.invert_yaxis()
    ax.set_yticks(rows[:-1] + 0.5, [drawable(name)[:20] for name in names])
    ax.tick_params(axis="y", length=0)
    figure.colorbar(image, ax=ax, label="probability", pad=0.01, ticks=[0, 0.5, 1])
