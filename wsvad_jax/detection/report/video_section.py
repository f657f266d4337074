"""Collects what a page shows of one video: player, timeline, events, key frames.

The template video_section.html draws it.
"""

import dataclasses
import os
import pathlib
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsvad_jax.detection.report import svg_timeline, text
from wsvad_jax.detection.report.key_frames import key_frames, unplayable_format
from wsvad_jax.detection.report.svg_timeline import Bar, Shade, Tick
from wsvad_jax.detection.result import DetectionResult
from wsvad_jax.evaluation.events import Event
from wsvad_jax.utils.html import data_uri
from wsvad_jax.utils.text import clock, count

JPEG = "image/jpeg"
MIME = {".webm": "video/webm", ".ogv": "video/ogg", ".mkv": "video/x-matroska"}
MAX_CLASSES = 12  # classes with a row, those of the highest probability
MIN_PROBABILITY = 0.1  # highest probability that a class without event needs for a row
MAX_PICTURED = 24  # events with key frames, those of the highest score
MARGIN = 0.1  # seconds before an event's end at which its last key frame is taken

Pictures = Mapping[float, bytes | None]  # time in seconds → JPEG


class EmbedBudget:
    """Number of bytes of video that a page may still contain."""

    def __init__(self, limit: int, total: int):
        """Sets the limits, in bytes: `limit` per video, `total` for all together."""
        self.limit, self.left = limit, total

    def take(self, size: int) -> bool:
        """Whether a video of `size` bytes is embedded; if so, it is subtracted."""
        if size >= self.limit or size > self.left:
            return False
        self.left -= size
        return True


@dataclasses.dataclass(frozen=True)
class Player:
    """Addresses of a video, or the reason why it can't be played."""

    source: str = ""  # address that is played; "" shows the reason
    embedded: bool = False  # whether `source` contains the video
    link: str = ""  # address of the file; "" without a file
    file: str = ""  # name of the file
    cover: str = ""  # picture of the strongest event, as an address; "" for none
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """Probability of one class over time."""

    name: str
    shades: list[Shade]
    description: str


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Rows of drawings over the same time, with descriptions for screen readers."""

    curve: str  # path of the scores
    description: str
    threshold: float | None
    events: list[Bar]
    events_text: str
    ground_truth: list[Bar] | None  # None: unknown
    ground_truth_text: str
    classes: list[ClassRow]
    omitted: str  # names of the classes without a row
    ticks: list[Tick]


@dataclasses.dataclass(frozen=True)
class KeyFrame:
    """A picture at one time of the video."""

    seconds: float
    time: str
    source: str  # the picture, as an address


@dataclasses.dataclass(frozen=True)
class EventItem:
    """An event of the list beside the player."""

    start: float
    end: float
    category: str
    time_span: str
    score: float  # NaN for a true event
    frames: list[KeyFrame]
    alarm_rate: str = ""  # false alarms at this score; "" if not calibrated
    detected: bool = True  # False: a true event without a detection
    clip: str = ""  # address of its clip; "" without one
    clip_at: str = ""  # time in the clip at which the event begins

    @property
    def bar(self) -> int:
        """Length of the score's bar in percent."""
        return round(100 * min(max(self.score, 0.0), 1.0))


@dataclasses.dataclass(frozen=True)
class VideoSection:
    """All that a page shows of one video."""

    name: str
    anchor: str  # id of the element
    summary: str
    damage: str
    remark: str
    player: Player
    timeline: Timeline
    events: list[EventItem]
    events_title: str  # number of events
    max_pictured: int  # number of events with key frames; 0 if all have them
    ground_truth: list[EventItem] | None  # None: unknown
    comparison: str  # of events and ground truth
    data: dict[str, Any]  # read by the script
    cover: bytes | None  # JPEG of the strongest event


def video_section(
    result: DetectionResult,
    anchor: str,
    folder: pathlib.Path,
    budget: EmbedBudget,
    settings: Mapping[str, object],
) -> VideoSection:
    """Collects what a page shows of one video.

    Args:
      result: scores and events of the video.
      anchor: id of the section in the page.
      folder: folder of the page, for relative links.
      budget: bytes of video that the page may still contain.
      settings: settings of the detection; a number `threshold`, or else `high`, is
        drawn as the threshold.
    """
    # All pictures at once, since each pass over a video file is slow.
    pictures = _pictures(result)
    strongest = text.strongest_event(result)
    cover = pictures.get(strongest.peak if strongest else _highest(result))

    truth = result.ground_truth
    return VideoSection(
        name=result.name,
        anchor=anchor,
        summary=text.summarize(result),
        damage=result.damage,
        remark=result.remark,
        player=_player(result, folder, budget, cover),
        timeline=_timeline(result, settings),
        events=_event_items(result, pictures, folder),
        events_title=count(len(result.events), "event"),
        max_pictured=MAX_PICTURED if len(result.events) > MAX_PICTURED else 0,
        ground_truth=None if truth is None else _true_items(truth, result.events),
        comparison=text.compare_with_ground_truth([result]),
        data=_script_data(result),
        cover=cover,
    )


def _highest(result: DetectionResult) -> float:
    """Returns the middle of the snippet with the highest score, in seconds."""
    if not len(result.anomaly):
        return 0.0
    at = int(np.argmax(result.anomaly))
    return float(result.edges[at] + result.edges[at + 1]) / 2


def _pictures(result: DetectionResult) -> Pictures:
    """Decodes the pictures of all times that the page shows."""
    if result.path is None:
        return {}
    ranked = sorted(result.events, key=lambda e: -e.score)[:MAX_PICTURED]
    seconds = sorted({t for e in ranked for t in (*_moments(e), e.peak)})
    # A video without events has a cover all the same.
    seconds = seconds or [_highest(result)]
    return dict(zip(seconds, key_frames(result.path, seconds), strict=True))


def _moments(event: Event) -> list[float]:
    """Returns the times of an event's key frames: its start, peak and end."""
    end = max(event.end - MARGIN, event.start)
    moments = [event.start, event.peak, end]

    # A peak close to an end would give the same picture twice; the middle says more.
    least = (event.end - event.start) / 5
    if event.peak - event.start < least or end - event.peak < least:
        moments = sorted({event.start, event.peak, (event.start + end) / 2, end})
        kept = [t for t in moments if t == event.peak or abs(t - event.peak) >= least]
        moments = kept[:3] if event.peak in kept[:3] else kept[-3:]
    return moments


def _player(
    result: DetectionResult,
    folder: pathlib.Path,
    budget: EmbedBudget,
    cover: bytes | None,
) -> Player:
    """Finds out whether and from where a browser can play the video."""
    # Everything but the player works without a file.
    if result.path is None:
        return Player(reason="Scored from features: there is no video file to play.")
    path = pathlib.Path(result.path)
    if not path.is_file():
        return Player(reason=f"The video file doesn't exist any more: {path}")

    picture = data_uri(cover, JPEG) if cover else ""
    player = Player(link=file_link(path, folder), file=path.name, cover=picture)

    # An AVI with a reason is better than a player that stays black.
    if kind := unplayable_format(path):
        why = "the file is damaged" if kind == "damaged" else f"it is {kind}"
        reason = f"Browsers can't play this file ({why})."
        return dataclasses.replace(player, reason=reason)

    # Small videos become part of the page, so that it can be passed on alone.
    if budget.take(path.stat().st_size):
        mime = MIME.get(path.suffix.lower(), "video/mp4")
        source = data_uri(path.read_bytes(), mime)
        return dataclasses.replace(player, source=source, embedded=True)

    return dataclasses.replace(player, source=player.link)


def file_link(path: pathlib.Path, folder: pathlib.Path) -> str:
    """Returns a relative address where page and video are likely to move together."""
    path, folder = path.absolute(), folder.absolute()
    if path.is_relative_to(folder.parent):
        relative = pathlib.PurePath(os.path.relpath(path, folder)).as_posix()
        return urllib.parse.quote(os.fsencode(relative))
    return path.as_uri()


def _timeline(result: DetectionResult, settings: Mapping[str, object]) -> Timeline:
    """Computes the curve, the events, the ground truth and the classes over time."""
    edges, truth = result.edges, result.ground_truth

    # Settings come from any caller, so `high` may be something else.
    high = settings.get("threshold", settings.get("high"))
    duration = clock(float(edges[-1]) if len(edges) else 0.0)

    # Without probabilities, no class is shown or hidden.
    shown = _shown_classes(result)
    hidden = [n for c, n in enumerate(result.class_names) if c and c not in shown]
    if result.classes is None:
        hidden = []

    return Timeline(
        curve=svg_timeline.curve(edges, result.anomaly),
        description=f"Anomaly score over {duration}. {text.summarize(result)}.",
        threshold=float(high) if isinstance(high, int | float) else None,
        events=svg_timeline.bars(result.events, edges),
        events_text=text.list_events(result.events),
        ground_truth=None if truth is None else svg_timeline.bars(truth, edges),
        ground_truth_text=text.list_events(truth or ()),
        classes=[_class_row(result, c) for c in shown],
        omitted=", ".join(hidden),
        ticks=svg_timeline.ticks(edges),
    )


def _shown_classes(result: DetectionResult) -> list[int]:
    """Returns the abnormal classes that have a row, in the card's order."""
    if result.classes is None or not len(result.classes):
        return []

    # Unlikely classes would only push the others apart.
    peaks = result.classes.max(axis=0)
    named = {e.category for e in result.events}
    likely = [
        c
        for c in range(1, len(result.class_names))
        if peaks[c] >= MIN_PROBABILITY or result.class_names[c] in named
    ]
    return sorted(sorted(likely, key=lambda c: -peaks[c])[:MAX_CLASSES])


def _class_row(result: DetectionResult, c: int) -> ClassRow:
    assert result.classes is not None
    name, probability = result.class_names[c], result.classes[:, c]
    highest = f"{float(probability.max()):.2f}"
    shades = svg_timeline.shades(result.edges, probability)
    return ClassRow(name, shades, f"{name}: highest probability {highest}")


def _event_items(
    result: DetectionResult, pictures: Pictures, folder: pathlib.Path
) -> list[EventItem]:
    items = [_event_item(event, pictures) for event in result.events]
    for i, clip in enumerate(result.clips):
        if clip is not None:
            link, at = file_link(clip.path, folder), clock(clip.event_at)
            items[i] = dataclasses.replace(items[i], clip=link, clip_at=at)
    return items


def _event_item(event: Event, pictures: Pictures) -> EventItem:
    tenths = text.needs_tenths(event)
    frames = [
        KeyFrame(t, clock(t, tenths=tenths), data_uri(jpeg, JPEG))
        for t in _moments(event)
        if (jpeg := pictures.get(t))
    ]
    times = event.start, event.end
    span = text.time_span(event)
    rate = event.alarm_rate
    alarm_rate = "" if rate is None else f"{rate.unit} at this score: {rate}"
    return EventItem(*times, event.category, span, event.score, frames, alarm_rate)


def _true_items(truth: Sequence[Event], events: Sequence[Event]) -> list[EventItem]:
    items = []
    for event in truth:
        item = _event_item(event, {})
        detected = text.overlaps(event, events)
        items.append(dataclasses.replace(item, detected=detected))
    return items


def _script_data(result: DetectionResult) -> dict[str, Any]:
    """Returns what the script reads: scores, and each snippet's likeliest class."""
    data: dict[str, Any] = {
        "edges": np.round(result.edges, 3).tolist(),
        "anomaly": np.round(result.anomaly.astype(float), 3).tolist(),
    }

    # Class 0 is normal: the script names the likeliest of the others.
    if result.classes is not None and len(result.class_names) > 1:
        top = 1 + result.classes[:, 1:].argmax(axis=1)
        probability = np.take_along_axis(result.classes, top[:, None], axis=1)[:, 0]

        data["names"] = list(result.class_names)
        data["top"] = top.tolist()
        data["probability"] = np.round(probability.astype(float), 3).tolist()
    return data
