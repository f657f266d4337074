"""The part of a page that shows one video: player, timeline, events, key frames."""

import base64
import html
import json
import os
import pathlib
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsvad_jax.detection.events import Event
from wsvad_jax.detection.report import svg_timeline
from wsvad_jax.detection.report import text as wording
from wsvad_jax.detection.report.key_frames import key_frames, unplayable
from wsvad_jax.detection.result import DetectionResult
from wsvad_jax.utils.text import clock, count

MIME = {".webm": "video/webm", ".ogv": "video/ogg", ".mkv": "video/x-matroska"}
ROWS = 12  # classes shown at most, those of the highest probability
FAINT = 0.1  # probability that a class without event needs somewhere to be shown
PICTURED = 24  # events that have key frames, those of the highest score
MARGIN = 0.1  # seconds before an event's end that its last key frame is taken
PLAY = '<svg class="icon" viewBox="0 0 12 12" aria-hidden="true"><path d="M2 1v10l9-5z"/></svg>'


class EmbedBudget:
    """How many bytes of video a page may still carry."""

    def __init__(self, limit: int, total: int):
        """`limit` of one video, `total` of all together."""
        self.limit, self.left = limit, total

    def take(self, size: int) -> bool:
        """Tells whether a video of `size` bytes is embedded, and counts it."""
        if size >= self.limit or size > self.left:
            return False
        self.left -= size
        return True


def section(
    answer: DetectionResult,
    anchor: str,
    folder: pathlib.Path,
    budget: EmbedBudget,
    settings: Mapping[str, object],
    level: int,
) -> tuple[str, bytes | None]:
    """Returns a video's part of the page, and a picture of its strongest event.

    Args:
      answer: about the video.
      anchor: the part's id.
      folder: where the page will lie, for relative links.
      budget: counts what the page carries.
      settings: `high`, if there, is drawn as the threshold.
      level: of the heading; the page's own heading is 1.
    """
    pictures = _pictures(answer)
    event = wording.strongest(answer)
    cover = pictures.get((event.peak if event else _peak(answer)), None)
    player = _player(answer, folder, budget, cover)
    name = html.escape(answer.name)
    heading = (
        f"<h{level}>{name}</h{level}>"
        f'<p class="lead">{html.escape(wording.sentence(answer))}.</p>'
        if level > 1
        else ""
    )
    damage = (
        f'<p class="note warn">The video is damaged: {html.escape(answer.damage)}. '
        "The scores are those of what can be read.</p>"
        if answer.damage
        else ""
    )
    if answer.remark:
        damage += f'<p class="note">{html.escape(answer.remark)}.</p>'
    sub = f"h{level + 1}"
    return (
        f'<article class="video" id="{anchor}" aria-label="{name}">'
        f'<header>{heading}{damage}</header><div class="columns">'
        f'<div class="stage">{player}{_timeline(answer, anchor, settings)}</div>'
        f'<div class="found">{_events(answer, pictures, sub)}{_truth(answer, sub)}</div>'
        f"</div>{_data(answer)}</article>"
    ), cover


def _end(answer: DetectionResult) -> float:
    return float(answer.edges[-1]) if len(answer.edges) else 0.0


def _peak(answer: DetectionResult) -> float:
    """The middle of the highest snippet, where there is no event."""
    if not len(answer.anomaly):
        return 0.0
    at = int(np.argmax(answer.anomaly))
    return float(answer.edges[at] + answer.edges[at + 1]) / 2


def _moments(event: Event) -> list[float]:
    """Returns the times of an event's key frames: its beginning, peak and end."""
    end = max(event.end - MARGIN, event.start)
    moments = [event.start, event.peak, end]
    apart = (event.end - event.start) / 5
    if event.peak - event.start < apart or end - event.peak < apart:
        # The peak lies at an end: the middle tells more than the same picture twice.
        moments = sorted({event.start, event.peak, (event.start + end) / 2, end})
        others = [t for t in moments if t == event.peak or abs(t - event.peak) >= apart]
        moments = others[:3] if event.peak in others[:3] else others[-3:]
    return moments


def _pictures(answer: DetectionResult) -> dict[float, bytes | None]:
    """Returns time → JPEG, for every time that the page shows."""
    if answer.path is None:
        return {}
    ranked = sorted(answer.events, key=lambda e: -e.score)[:PICTURED]
    seconds = sorted({t for e in ranked for t in (*_moments(e), e.peak)})
    seconds = seconds or [_peak(answer)]
    return dict(zip(seconds, key_frames(answer.path, seconds), strict=True))


def _player(answer, folder, budget, cover) -> str:
    """Returns the player, or why there is none; the timeline works without it."""
    if answer.path is None:
        return _absent("Scored from features: there is no video file to play.", None)
    path = pathlib.Path(answer.path)
    if not path.is_file():
        return _absent(f"The video file is not there any more: {path}", None)
    link = html.escape(_uri(path, folder))
    opened = f'<a href="{link}">{html.escape(path.name)}</a>'
    if what := unplayable(path):
        why = "the file is damaged" if what == "damaged" else f"it is {what}"
        text = f"Browsers cannot play this file ({html.escape(why)})."
        return _absent(
            f"{text} Open {opened} in a video player; what was found is all here.",
            cover,
            escape=False,
        )
    poster = f' poster="{_jpeg_uri(cover)}"' if cover else ""
    if budget.take(path.stat().st_size):
        mime = MIME.get(path.suffix.lower(), "video/mp4")
        source = f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"
        where = ""
    else:
        source = link
        where = f'<p class="note">The video is not part of this page: {opened}.</p>'
    return (
        f'<video controls playsinline preload="metadata"{poster} src="{source}" '
        f'aria-label="{html.escape(answer.name)}"></video>'
        f'<p class="note warn unplayable" hidden>This browser cannot play the file, or '
        f"it has been moved: {opened}.</p>{where}"
    )


def _absent(text: str, picture: bytes | None, *, escape: bool = True) -> str:
    image = f'<img src="{_jpeg_uri(picture)}" alt="">' if picture else ""
    text = html.escape(text) if escape else text
    return f'<div class="absent">{image}<p>{text}</p></div>'


def _uri(path: pathlib.Path, folder: pathlib.Path) -> str:
    """Returns a relative address where page and video are likely to move together."""
    path, folder = path.absolute(), folder.absolute()
    if path.is_relative_to(folder.parent):
        relative = pathlib.PurePath(os.path.relpath(path, folder)).as_posix()
        return urllib.parse.quote(os.fsencode(relative))
    return path.as_uri()


def _jpeg_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _timeline(
    answer: DetectionResult, anchor: str, settings: Mapping[str, object]
) -> str:
    """Returns curve, events, truth and classes over the same time, as labelled rows."""
    high = settings.get("high")
    threshold = float(high) if isinstance(high, int | float) else None
    edges, truth = answer.edges, answer.ground_truth or ()
    said = f"Anomaly score over {clock(_end(answer))}. "
    said += wording.sentence(answer) + "."
    percents = "<span>100 %</span><span>50 %</span><span>0 %</span>"
    drawing = svg_timeline.curve(
        edges, answer.anomaly, answer.events, truth, threshold, said
    )
    rows = [_row("score", f'<b>Score</b><i aria-hidden="true">{percents}</i>', drawing)]
    said = "; ".join(map(wording.describe, answer.events)) or "none"
    rows.append(
        _row("Found", "Found", svg_timeline.lane(answer.events, edges, "event", said))
    )
    if answer.ground_truth is not None:
        said = "; ".join(map(wording.describe, truth)) or "none"
        rows.append(
            _row("True", "True", svg_timeline.lane(truth, edges, "truth", said))
        )
    shown = _shown(answer)
    for c in shown:
        p = answer.classes[:, c]  # pyright: ignore[reportOptionalSubscript]
        name = answer.class_names[c]
        said = f"{name}: probability at most {wording.percent(float(p.max()))}"
        label = f'<span title="{html.escape(name)}">{html.escape(name)}</span>'
        rows.append(_row("class", label, svg_timeline.band(edges, p, said)))
    rows.append(_row("axis", "", svg_timeline.axis(edges)))
    return (
        f'<div class="timeline"><div class="rows">{"".join(rows)}'
        f'<div class="scrub" data-label="Time in {html.escape(answer.name)}">'
        f'<div class="playhead"></div><div class="tip" hidden></div></div></div>'
        f'<p class="readout" hidden></p>{_hidden(answer, shown)}'
        f'<p class="hint" id="{anchor}-hint" hidden>Click or drag to seek. With the '
        f"keyboard: <kbd>N</kbd> <kbd>P</kbd> next and previous event, "
        f"<kbd>Space</kbd> play, and on the curve ← → a second.</p></div>"
    )


def _row(kind: str, label: str, drawing: str) -> str:
    return (
        f'<div class="label {kind.lower()}">{label}</div>'
        f'<div class="lane-box {kind.lower()}">{drawing}</div>'
    )


def _shown(answer: DetectionResult) -> list[int]:
    """Returns the abnormal classes that have a row, in the card's order."""
    if answer.classes is None or not len(answer.classes):
        return []
    peaks = answer.classes.max(axis=0)
    named = {e.category for e in answer.events}
    worth = [
        c
        for c in range(1, len(answer.class_names))
        if peaks[c] >= FAINT or answer.class_names[c] in named
    ]
    return sorted(sorted(worth, key=lambda c: -peaks[c])[:ROWS])


def _hidden(answer: DetectionResult, shown: Sequence[int]) -> str:
    """Says which classes have no row."""
    if answer.classes is None or len(shown) == len(answer.class_names) - 1:
        return ""
    rest = [n for c, n in enumerate(answer.class_names) if c and c not in shown]
    names = html.escape(", ".join(rest))
    return f'<p class="hint">Less likely classes, not shown: {names}.</p>'


def _events(
    answer: DetectionResult, pictures: Mapping[float, bytes | None], heading: str
) -> str:
    if not answer.events:
        nothing = '<p class="nothing">No event in this video.</p>'
        return f"<{heading}>Events</{heading}>{nothing}"
    items = "".join(_event(e, pictures) for e in answer.events)
    fewer = ""
    if len(answer.events) > PICTURED:
        fewer = f'<p class="hint">Key frames of the {PICTURED} strongest events.</p>'
    title = count(len(answer.events), "event")
    listed = f'<ol class="events">{items}</ol>{fewer}'
    return f"<{heading}>{title}</{heading}>{listed}"


def _event(event: Event, pictures: Mapping[float, bytes | None]) -> str:
    what, when = html.escape(event.category), wording.span(event)
    frames = []
    for t in _moments(event):
        if jpeg := pictures.get(t):
            at = clock(t, tenths=wording.short(event))
            frames.append(
                f'<button type="button" class="frame" data-seek="{t:.3f}">'
                f'<img src="{_jpeg_uri(jpeg)}" alt="{what}, frame at {at}">'
                f"<span>{at}</span></button>"
            )
    width = 100 * min(max(event.score, 0), 1)
    bar = (
        '<svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" '
        'aria-hidden="true"><rect class="track" width="100" height="4"/>'
        f'<rect class="event" width="{width:.0f}" height="4"/></svg>'
    )
    pictured = f'<div class="frames">{"".join(frames)}</div>' if frames else ""
    return (
        f'<li class="event" data-start="{event.start:.3f}" data-end="{event.end:.3f}">'
        f'<button type="button" class="jump" data-seek="{event.start:.3f}">{PLAY}'
        f'<span class="what">{what}</span> <span class="when">{when}</span> '
        f'<span class="sure">{wording.percent(event.score)} sure{bar}</span></button>'
        f"{pictured}</li>"
    )


def _truth(answer: DetectionResult, heading: str) -> str:
    if answer.ground_truth is None:
        return ""
    items = []
    for e in answer.ground_truth:
        hit = wording.overlaps(e, answer.events)
        items.append(
            f'<li><button type="button" class="jump" data-seek="{e.start:.3f}">'
            f'<span class="what">{html.escape(e.category)}</span> '
            f'<span class="when">{wording.span(e)}</span> <span class="sure">'
            f"{'found' if hit else 'missed'}</span></button></li>"
        )
    listed = f'<ol class="truths">{"".join(items)}</ol>' if items else ""
    text = html.escape(wording.compared([answer]))
    title = f"<{heading}>Known truth</{heading}>"
    return f'{title}<p class="nothing">{text}</p>{listed}'


def _data(answer: DetectionResult) -> str:
    """Returns what the script needs; "<" is escaped, so that no name ends the block."""
    data: dict[str, Any] = {
        "edges": np.round(answer.edges, 3).tolist(),
        "anomaly": np.round(answer.anomaly.astype(float), 3).tolist(),
    }
    if answer.classes is not None and len(answer.class_names) > 1:
        top = 1 + answer.classes[:, 1:].argmax(axis=1)
        sure = np.take_along_axis(answer.classes, top[:, None], axis=1)[:, 0]
        data["names"] = list(answer.class_names)
        data["top"] = top.tolist()
        data["sure"] = np.round(sure.astype(float), 3).tolist()
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" class="data">{text}</script>'
