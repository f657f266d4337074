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

from wsvad_jax.detection.report import reasons, text
from wsvad_jax.detection.report.key_frames import key_frames, unplayable_format
from wsvad_jax.detection.report.timeline import Timeline, timeline
from wsvad_jax.detection.result import DetectionResult
from wsvad_jax.evaluation.bumps import Bump
from wsvad_jax.evaluation.events import Event
from wsvad_jax.utils.html import data_uri
from wsvad_jax.utils.text import clock, count

JPEG = "image/jpeg"
MIME = {".webm": "video/webm", ".ogv": "video/ogg", ".mkv": "video/x-matroska"}
MAX_PICTURED = 24  # events with key frames, those of the highest score
MAX_BUMPS = 24  # bumps with a line, those of the highest score
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
    below_line: str = ""  # why it is below the dashed line; "" where it doesn't

    @property
    def bar(self) -> int:
        """Length of the score's bar in percent."""
        return round(100 * min(max(self.score, 0.0), 1.0))


@dataclasses.dataclass(frozen=True)
class BumpItem:
    """A stretch of scores that is no event."""

    start: float
    end: float
    time_span: str
    score: float
    reason: str


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
    bumps: list[BumpItem]
    bumps_title: str  # number of bumps, and of those in the list
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

    # A restless video has many bumps; the highest ones are those that are asked about.
    truth, bumps = result.ground_truth, reasons.listed_bumps(result, settings)
    highest = sorted(bumps, key=lambda each: -each[0].score)[:MAX_BUMPS]
    listed = sorted(highest, key=lambda each: each[0].start)

    events = _event_items(result, pictures, folder, settings)
    items = _bump_items(listed)
    return VideoSection(
        name=result.name,
        anchor=anchor,
        summary=text.summarize(result),
        damage=result.damage,
        remark=result.remark,
        player=_player(result, folder, budget, cover),
        timeline=timeline(result, settings, [bump for bump, _ in listed]),
        events=events,
        events_title=count(len(result.events), "event"),
        bumps=items,
        bumps_title=_bumps_title(len(items), len(bumps)),
        max_pictured=MAX_PICTURED if len(result.events) > MAX_PICTURED else 0,
        ground_truth=None if truth is None else _true_items(truth, result.events),
        comparison=text.compare_with_ground_truth([result]),
        data=_script_data(result, events, items),
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


def _bump_items(bumps: Sequence[tuple[Bump, str]]) -> list[BumpItem]:
    return [
        BumpItem(b.start, b.end, text.format_span(b.start, b.end), b.score, reason)
        for b, reason in bumps
    ]


def _bumps_title(num_listed: int, num_all: int) -> str:
    if num_listed < num_all:
        return f"The {num_listed} highest of {num_all} bumps that are no events"
    return f"{count(num_all, 'bump')} that {'is no event' if num_all == 1 else 'are no events'}"


def _event_items(
    result: DetectionResult,
    pictures: Pictures,
    folder: pathlib.Path,
    settings: Mapping[str, object],
) -> list[EventItem]:
    line = reasons.threshold_line(settings)
    items = []
    for event in result.events:
        why = reasons.why_below_line(event, result.explanation, line)
        items.append(_event_item(event, pictures, why))
    for i, clip in enumerate(result.clips):
        if clip is not None:
            link, at = file_link(clip.path, folder), clock(clip.event_at)
            items[i] = dataclasses.replace(items[i], clip=link, clip_at=at)
    return items


def _event_item(event: Event, pictures: Pictures, below_line: str = "") -> EventItem:
    tenths = text.needs_tenths(event)
    frames = [
        KeyFrame(t, clock(t, tenths=tenths), data_uri(jpeg, JPEG))
        for t in _moments(event)
        if (jpeg := pictures.get(t))
    ]
    rate = event.alarm_rate
    return EventItem(
        event.start,
        event.end,
        event.category,
        text.time_span(event),
        event.score,
        frames,
        alarm_rate="" if rate is None else f"{rate.unit} at this score: {rate}",
        below_line=below_line,
    )


def _true_items(truth: Sequence[Event], events: Sequence[Event]) -> list[EventItem]:
    items = []
    for event in truth:
        item = _event_item(event, {})
        detected = text.overlaps(event, events)
        items.append(dataclasses.replace(item, detected=detected))
    return items


def _script_data(
    result: DetectionResult, events: Sequence[EventItem], bumps: Sequence[BumpItem]
) -> dict[str, Any]:
    """Returns what the script reads: scores, likeliest classes, and reasons over time."""
    spans = [(item.start, item.end) for item in (*events, *bumps)]
    data: dict[str, Any] = {
        "edges": np.round(result.edges, 3).tolist(),
        "anomaly": np.round(result.anomaly.astype(float), 3).tolist(),
        "tenths": any(end - start < text.SHORT for start, end in spans),
        "notes": [
            *(
                [e.start, e.end, f"event: {e.below_line}"]
                for e in events
                if e.below_line
            ),
            *([b.start, b.end, f"no event: {b.reason}"] for b in bumps),
        ],
    }

    # Class 0 is normal: the script names the likeliest of the others.
    if result.classes is not None and len(result.class_names) > 1:
        top = 1 + result.classes[:, 1:].argmax(axis=1)
        probability = np.take_along_axis(result.classes, top[:, None], axis=1)[:, 0]

        data["names"] = list(result.class_names)
        data["top"] = top.tolist()
        data["probability"] = np.round(probability.astype(float), 3).tolist()
    return data
