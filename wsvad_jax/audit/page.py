"""Lays out an audit as one page that loads nothing from elsewhere."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.audit.entries import DisputeEntry
from wsvad_jax.detection.report.key_frames import key_frames
from wsvad_jax.detection.report.svg_timeline import Bar, bars, curve
from wsvad_jax.detection.report.text import format_setting, format_span
from wsvad_jax.detection.report.video_section import JPEG, file_link
from wsvad_jax.evaluation.events import Event
from wsvad_jax.utils.html import data_uri, write_document
from wsvad_jax.utils.progress import Progress
from wsvad_jax.utils.text import clock, count

if TYPE_CHECKING:
    from wsvad_jax.audit.moments import ScoredMoment

TEMPLATE, STYLES = "audit.html", ("report.css", "audit.css")
WIDTH = 320  # pixels of a picture
SHOWN, LEAST, SHOWN_OTHER = 30, 5, 15  # cards of the page
TITLES = {
    "labels": "Normal or abnormal: disputed labels",
    "classes": "Another class of anomaly",
    "unlabelled": "Unlabelled videos worth labelling",
}
TEXTS = {
    "labels": "The most disputed first. The number is the probability of the other label, "
    "estimated from the ranks of all videos; below 0.50 the model agrees with the label.",
    "classes": "Abnormal videos that get another class than their label's. The number is "
    "the margin between the two probabilities.",
    "unlabelled": "Those on which the models are least certain first. The number is the "
    "mean probability of the label abnormal.",
}


@dataclasses.dataclass(frozen=True)
class Still:
    """A moment on the page; its picture and link are "" without a video file."""

    span: str
    at: str
    score: str
    picture: str = ""
    link: str = ""


@dataclasses.dataclass(frozen=True)
class AuditCard:
    """What the page shows of one video."""

    rank: int
    video: str
    label: str
    verdict: str
    value: str
    why: str
    description: str
    curve: str
    bars: Sequence[Bar]
    end: str
    times: Sequence[Still]
    stills: Sequence[Still]  # those with pictures
    link: str


@dataclasses.dataclass(frozen=True)
class CardSection:
    """A ranking on the page."""

    title: str
    text: str
    cards: Sequence[AuditCard]


def write_page(
    path: pathlib.Path,
    document: Mapping[str, Any],
    rankings: Mapping[str, Sequence[DisputeEntry]],
    videos: Mapping[str, pathlib.Path],
) -> None:
    """Writes the page.

    Args:
      path: file to write.
      document: content of audit.json.
      rankings: ranked videos under `labels`, `classes` and `unlabelled`.
      videos: video files by name.
    """
    shown = {name: _shown(name, ranked) for name, ranked in rankings.items()}
    stills = _stills([e for ranked in shown.values() for e in ranked], videos, path)
    sections = [
        CardSection(
            TITLES[name],
            _text(name, len(ranked), len(rankings[name])),
            [_card(entry, stills, videos, path) for entry in ranked],
        )
        for name, ranked in shown.items()
        if ranked
    ]

    disputed = document["disputed"]
    of = f"of {count(document['videos'], 'training label')}"
    values = {
        "title": f"Label audit: {document['dataset']}",
        "dataset": document["dataset"],
        "headline": f"{disputed or 'None'} {of} {'is' if disputed == 1 else 'are'} disputed",
        "facts": [
            f"{document['folds']} models of the recipe {document['model']}",
            f"video AUC of the judgements: {document['video_auc']:.3f}",
        ],
        "notes": document["notes"],
        "sections": sections,
        "settings": _settings(document),
    }
    write_document(path, TEMPLATE, values, styles=STYLES, script="")


def _shown(name: str, ranked: Sequence[DisputeEntry]) -> list[DisputeEntry]:
    """Returns the entries that the page shows; the tables have all of them."""
    if name != "labels":
        return list(ranked[:SHOWN_OTHER])
    disputed = sum(entry.values["disputed"] for entry in ranked)
    return list(ranked[: min(max(disputed, LEAST), SHOWN)])


def _text(name: str, shown: int, total: int) -> str:
    more = f" {shown} of {total} are shown; the table has all." if shown < total else ""
    return TEXTS[name] + more


def _settings(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    listed = [
        (key.replace("_", " "), format_setting(document[key]))
        for key in ("run", "model", "seed", "folds", "dataset", "content")
    ]
    together = "; ".join(", ".join(names) for names in document["copies"])
    return [*listed, ("copies, in one fold", together or "none found")]


def _stills(
    ranked: Sequence[DisputeEntry],
    videos: Mapping[str, pathlib.Path],
    page: pathlib.Path,
) -> dict[int, list[Still]]:
    """Returns the moments of each entry, by its identity; each video is read once."""
    by_video: dict[str, list[DisputeEntry]] = {}
    for entry in ranked:
        by_video.setdefault(entry.video, []).append(entry)

    stills: dict[int, list[Still]] = {}
    at_hand = sum(name in videos for name in by_video)
    with Progress("pictures", at_hand, unit="video") as progress:
        for name, own in by_video.items():
            path = videos.get(name)
            moments = [(entry, m) for entry in own for m in _in_time(entry.moments)]
            jpegs: list[bytes | None] = [None] * len(moments)
            if path is not None:
                jpegs = key_frames(path, [m.peak for _, m in moments], width=WIDTH)
                progress.update()

            link = "" if path is None else file_link(path, page.parent)
            for (entry, moment), jpeg in zip(moments, jpegs, strict=True):
                still = _still(moment, jpeg, link)
                stills.setdefault(id(entry), []).append(still)
    return stills


def _in_time(moments: "Sequence[ScoredMoment]") -> "list[ScoredMoment]":
    return sorted(moments, key=lambda moment: moment.start)


def _still(moment: "ScoredMoment", jpeg: bytes | None, link: str) -> Still:
    return Still(
        format_span(moment.start, moment.end),
        clock(moment.peak, tenths=True),
        f"{moment.score:.2f}",
        data_uri(jpeg, JPEG) if jpeg else "",
        f"{link}#t={moment.start:.1f}" if link else "",
    )


def _card(
    entry: DisputeEntry,
    stills: Mapping[int, Sequence[Still]],
    videos: Mapping[str, pathlib.Path],
    page: pathlib.Path,
) -> AuditCard:
    shaded = [Event(m.start, m.end, "", m.score, m.peak) for m in entry.moments]
    times = stills.get(id(entry), [])
    path = videos.get(entry.video)
    return AuditCard(
        rank=entry.rank,
        video=entry.video,
        label=entry.label,
        verdict=f"model: {entry.says}",
        value=_value(entry),
        why=entry.why,
        description=f"Scores of {entry.video} over time",
        curve=curve(entry.edges, np.clip(entry.curve, 0, 1)),
        bars=bars(shaded, entry.edges),
        end=clock(float(entry.edges[-1])),
        times=times,
        stills=[still for still in times if still.picture],
        link="" if path is None else file_link(path, page.parent),
    )


def _value(entry: DisputeEntry) -> str:
    for key in ("dispute", "margin", "abnormal"):
        if key in entry.values:
            return f"{entry.values[key]:.2f}"
    return ""
