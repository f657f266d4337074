"""Answers as a web page: a player, the scores as its timeline, events, key frames.

  write_report   one file, or an index and a page a video where there are many

A page needs nothing from elsewhere, and its policy lets the browser load nothing. What
is in it can be read without JavaScript, which adds seeking and the playhead. Everything
that comes from outside (names, labels, settings) is escaped.
"""

import base64
import html
import pathlib
import re
import urllib.parse
from collections.abc import Mapping, Sequence

from wsvad_jax.detection.report import svg_timeline, text
from wsvad_jax.detection.report.key_frames import shrink
from wsvad_jax.detection.report.video_section import EmbedBudget, section
from wsvad_jax.detection.result import DetectionResult
from wsvad_jax.utils.html import write_document
from wsvad_jax.utils.progress import Progress
from wsvad_jax.utils.text import clock, count

SINGLE = 24  # videos up to which a report is one file
CARRIED = 5  # times `embed_limit` that one file carries in all
THUMBNAIL = 160  # pixels
NOTE = (
    "The score says how unusual a moment looks to the model; “87 % sure” is the "
    "highest score in the event. It is the model's own estimate and no proof: "
    "look at the video before acting on it."
)
THRESHOLD = " The dashed line is the setting “high”."


def write_report(
    path: pathlib.Path,
    answers: Sequence[DetectionResult],
    *,
    title: str,
    settings: Mapping[str, object],
    embed_limit: int = 20_000_000,
) -> list[pathlib.Path]:
    """Writes what was found as HTML.

    Up to 24 videos are one file. More get an index at `path`, sorted by the strongest
    event, and a page each in the folder `pages` beside it.

    Args:
      path: of the page, as a rule report.html.
      answers: one a video, in any order.
      title: above everything.
      settings: name → value, listed at the end; a number `high` in [0, 1] is drawn as
        the threshold.
      embed_limit: bytes; smaller videos are part of the page (five times as many bytes
        in one page), the others are linked.

    Returns:
      The files written, the one to open first.
    """
    path = pathlib.Path(path)
    ranked = sorted(answers, key=text.order)
    if len(ranked) > SINGLE:
        return _many(path, ranked, title, settings, embed_limit)
    budget = EmbedBudget(embed_limit, CARRIED * embed_limit)
    alone = len(ranked) == 1
    parts, rows = [], []
    for i, answer in enumerate(ranked, 1):
        anchor = f"v{i}"
        part, cover = section(
            answer, anchor, path.parent, budget, settings, 1 if alone else 2
        )
        parts.append(part)
        rows.append(_row(answer, f"#{anchor}", cover))
    overview = "" if alone else _list(rows)
    body = f"{_head(ranked, title)}{overview}{''.join(parts)}{_settings(settings)}"
    write_document(path, title, body)
    return [path]


def _many(path, ranked, title, settings, embed_limit) -> list[pathlib.Path]:
    """Writes an index and its pages; the index last, when all it names is there."""
    pages, rows = [], []
    files = file_names([a.name for a in ranked])
    with Progress("report", len(ranked), unit="video") as progress:
        for i, (answer, file) in enumerate(zip(ranked, files, strict=True)):
            page = path.parent / "pages" / file
            budget = EmbedBudget(embed_limit, embed_limit)
            part, cover = section(answer, "v1", page.parent, budget, settings, 1)
            links = _neighbours(path.name, files, i)
            body = f"{links}{_head([answer], title)}{part}{_settings(settings)}"
            write_document(page, f"{answer.name} · {title}", body)
            pages.append(page)
            rows.append(_row(answer, f"pages/{urllib.parse.quote(file)}", cover))
            progress.update()
    search = (
        '<p class="filter" hidden><label>Show only names or classes with '
        '<input type="search" autocomplete="off"></label> '
        '<span role="status"></span></p>'
    )
    body = f"{_head(ranked, title)}{search}{_list(rows)}{_settings(settings)}"
    write_document(path, title, body)
    return [path, *pages]


def file_names(names: Sequence[str]) -> list[str]:
    """Returns a file name for each video, different also where case is ignored."""
    taken: set[str] = set()
    found = []
    for name in names:
        base = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:80] or "video"
        base = base.encode()[:200].decode(errors="ignore")  # names are limited in bytes
        number, unique = 1, base
        while unique.casefold() in taken:
            number += 1
            unique = f"{base}-{number}"
        taken.add(unique.casefold())
        found.append(f"{unique}.html")
    return found


def _neighbours(index: str, files: Sequence[str], i: int) -> str:
    up = f'<a href="../{urllib.parse.quote(index)}">All videos</a>'
    before = (
        f'<a rel="prev" href="{urllib.parse.quote(files[i - 1])}">Stronger</a>'
        if i
        else ""
    )
    after = (
        f'<a rel="next" href="{urllib.parse.quote(files[i + 1])}">Weaker</a>'
        if i + 1 < len(files)
        else ""
    )
    return f'<nav aria-label="Videos">{up}{before}{after}</nav>'


def _head(answers: Sequence[DetectionResult], title: str) -> str:
    """Returns the page's top: the answer in one sentence, and a few facts."""
    if len(answers) == 1:
        facts = [answers[0].name, _length(answers)]
    else:
        found = text.classes(answers)
        facts = [found, f"{_length(answers)} of video"]
        if compared := text.compared(answers):
            facts.append(compared.rstrip("."))
    listed = "".join(f"<li>{html.escape(fact)}</li>" for fact in facts if fact)
    return (
        f'<header class="top"><p class="title">{html.escape(title)}</p>'
        f"<h1>{html.escape(text.headline(answers))}</h1>"
        f'<ul class="facts">{listed}</ul></header>'
    )


def _length(answers: Sequence[DetectionResult]) -> str:
    ends = [float(a.edges[-1]) for a in answers if len(a.edges)]
    return clock(sum(ends, 0.0))


def _list(rows: Sequence[str]) -> str:
    return (
        '<nav class="overview" aria-label="Videos, the strongest event first">'
        f"<ol>{''.join(rows)}</ol></nav>"
    )


def _row(answer: DetectionResult, link: str, cover: bytes | None) -> str:
    """Returns a video's line in a list of videos."""
    event = text.strongest(answer)
    picture = '<span class="thumbnail"></span>'
    if cover:
        small = base64.b64encode(shrink(cover, THUMBNAIL)).decode()
        source = f"data:image/jpeg;base64,{small}"
        picture = f'<img class="thumbnail" src="{source}" alt="" loading="lazy">'
    events = count(len(answer.events), "event") if answer.events else ""
    words = text.describe(event) if event else text.sentence(answer)
    top = text.percent(float(answer.anomaly.max(initial=0.0)))
    spark = svg_timeline.sparkline(answer.edges, answer.anomaly, f"Score at most {top}")
    named = html.escape(" ".join([answer.name, *(e.category for e in answer.events)]))
    return (
        f'<li class="{"has" if event else "none"}" data-words="{named}">'
        f'<a href="{link}">{picture}<span class="who">'
        f'<span class="name">{html.escape(answer.name)}</span>'
        f'<span class="what">{html.escape(words)}</span></span>'
        f'{spark}<span class="count">{events}</span></a></li>'
    )


def _settings(settings: Mapping[str, object]) -> str:
    listed = "".join(
        f"<div><dt>{html.escape(str(name).replace('_', ' '))}</dt>"
        f"<dd>{html.escape(text.setting(value))}</dd></div>"
        for name, value in settings.items()
    )
    shown = (
        f"<details><summary>Settings used</summary><dl>{listed}</dl></details>"
        if listed
        else ""
    )
    threshold = THRESHOLD if "high" in settings else ""
    return f"<footer><p>{NOTE}{threshold}</p>{shown}</footer>"
