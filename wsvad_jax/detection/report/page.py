"""Writes detection results as a web page: player, score timeline, events, key frames.

  write_report   one file, or an index and one page per video where there are many

A page loads nothing from elsewhere, and its security policy allows nothing else. It can
be read without JavaScript, which adds seeking and the playhead.
"""

import dataclasses
import pathlib
import urllib.parse
from collections.abc import Mapping, Sequence

from wsvad_jax.detection.report import svg_timeline, text
from wsvad_jax.detection.report.key_frames import shrink
from wsvad_jax.detection.report.video_section import JPEG, EmbedBudget, video_section
from wsvad_jax.detection.result import DetectionResult, events_csv
from wsvad_jax.utils.html import data_uri, write_document
from wsvad_jax.utils.progress import Progress
from wsvad_jax.utils.text import clock, count, file_stem

SINGLE = 24  # most videos of a report in one file
CARRIED = 5  # most bytes of video in one file, as a multiple of `embed_limit`
THUMBNAIL = 160  # pixels
SPARK_STEPS = 160  # most steps of the curves in the list of videos
TEMPLATE = "detection_report.html"


@dataclasses.dataclass(frozen=True)
class OverviewRow:
    """One video in the list of videos."""

    link: str
    name: str
    summary: str
    words: str  # text that the list's filter searches
    thumbnail: str  # picture as an address; "" for none
    curve: str  # path of the scores
    highest: str  # description of the curve for screen readers
    count: str  # number of events; "" for none
    detected: bool  # whether the video has an event


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Addresses of the index, and of the pages before and after one."""

    index: str
    before: str  # "" for the first page
    after: str  # "" for the last page


def write_report(
    path: pathlib.Path,
    results: Sequence[DetectionResult],
    *,
    title: str,
    settings: Mapping[str, object],
    embed_limit: int = 20_000_000,
    json_file: str = "",
) -> list[pathlib.Path]:
    """Writes results as HTML.

    Up to 24 videos are one file. More get an index at `path`, sorted by the strongest
    event, and one page per video in the folder `pages` beside it.

    Args:
      path: file to write, usually report.html.
      results: one result per video, in any order.
      title: small title above the headline.
      settings: name → value, listed at the end; a number `threshold` (of a calibration)
        or else `high`, in [0, 1], is drawn as the threshold.
      embed_limit: size in bytes below which a video is part of the page, up to five
        times as many bytes per page; other videos are linked.
      json_file: name of events.json beside the page, which is linked; "" for none.

    Returns:
      Paths of the files, the first to open first.
    """
    path = pathlib.Path(path)
    ranked = sorted(results, key=text.sort_key)

    # One file with the pictures of many videos would open slowly.
    if len(ranked) > SINGLE:
        return _write_pages(path, ranked, title, settings, embed_limit, json_file)

    budget = EmbedBudget(embed_limit, CARRIED * embed_limit)
    sections, rows = [], []
    for i, result in enumerate(ranked, 1):
        section = video_section(result, f"v{i}", path.parent, budget, settings)
        sections.append(section)
        rows.append(_overview_row(result, f"#v{i}", section.cover))

    values = _page_values(ranked, title, settings, json_file)

    # One video needs no list of videos.
    values |= {"sections": sections, "rows": rows if len(ranked) != 1 else []}
    write_document(path, TEMPLATE, values)
    return [path]


def _write_pages(
    path: pathlib.Path,
    ranked: Sequence[DetectionResult],
    title: str,
    settings: Mapping[str, object],
    embed_limit: int,
    json_file: str,
) -> list[pathlib.Path]:
    """Writes one page per video, then the index, so that its links always work."""
    pages, rows = [], []
    files = file_names([result.name for result in ranked])

    with Progress("report", len(ranked), unit="video") as progress:
        for i, (result, file) in enumerate(zip(ranked, files, strict=True)):
            page = path.parent / "pages" / file
            budget = EmbedBudget(embed_limit, embed_limit)
            section = video_section(result, "v1", page.parent, budget, settings)

            # Readers go from page to page in the order of the index.
            up = json_file and f"../{json_file}"
            values = _page_values([result], title, settings, up)
            values |= {
                "title": f"{result.name} · {title}",
                "sections": [section],
                "neighbours": _neighbours(path.name, files, i),
            }
            write_document(page, TEMPLATE, values)

            pages.append(page)
            link = f"pages/{urllib.parse.quote(file)}"
            rows.append(_overview_row(result, link, section.cover))
            progress.update()

    # A long list gets a filter.
    values = _page_values(ranked, title, settings, json_file)
    write_document(path, TEMPLATE, values | {"rows": rows, "filter": True})
    return [path, *pages]


def file_names(names: Sequence[str]) -> list[str]:
    """Returns a file name per video, unique even where case is ignored."""
    taken: set[str] = set()
    unique = []
    for name in names:
        base = file_stem(name) or "video"

        # Doubles get a number.
        number, candidate = 1, base
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{base}-{number}"
        taken.add(candidate.casefold())
        unique.append(f"{candidate}.html")
    return unique


def _neighbours(index: str, files: Sequence[str], i: int) -> Neighbours:
    before = files[i - 1] if i else ""
    after = files[i + 1] if i + 1 < len(files) else ""
    quote = urllib.parse.quote
    return Neighbours(f"../{quote(index)}", quote(before), quote(after))


def _page_values(
    results: Sequence[DetectionResult],
    title: str,
    settings: Mapping[str, object],
    json_link: str,
) -> dict[str, object]:
    """Returns the values that each kind of page has: its top and its settings."""
    # The headline of a single video says the rest.
    if len(results) == 1:
        facts = [results[0].name, _duration(results)]
    else:
        facts = [text.count_classes(results), f"{_duration(results)} of video"]
        facts.append(text.compare_with_ground_truth(results).rstrip("."))

    listed = [
        (str(name).replace("_", " "), text.format_setting(value))
        for name, value in settings.items()
        if name != "clip_note"  # shown at the top
    ]

    return {
        "title": title,
        "report_title": title,
        "headline": text.headline(results),
        "facts": [fact for fact in facts if fact],
        "note": settings.get("clip_note", ""),
        "settings": listed,
        # The page may be passed on alone, so it contains the events. A file's name may
        # have bytes that are no text; they are escaped as in events.csv.
        "csv": data_uri(
            events_csv(results).encode(errors="backslashreplace"), "text/csv"
        ),
        "json": urllib.parse.quote(json_link),
        "calibration": _calibration(settings),
        "rows": [],
        "sections": [],
        "neighbours": None,
        "filter": False,
    }


def _calibration(settings: Mapping[str, object]) -> str:
    """Words what the calibration promises; "" without one."""
    if "calibration" not in settings:
        return ""
    rate = next(name for name in settings if name.startswith("false alarms per "))
    drift = f". Here: {settings['drift']}" if "drift" in settings else ""
    return (
        f"Expected {rate} above the calibration's threshold: "
        f"{settings[rate]}, from {settings['calibrated on']}{drift}"
    )


def _duration(results: Sequence[DetectionResult]) -> str:
    ends = [float(r.edges[-1]) for r in results if len(r.edges)]
    return clock(sum(ends, 0.0))


def _overview_row(
    result: DetectionResult, link: str, cover: bytes | None
) -> OverviewRow:
    event = text.strongest_event(result)
    highest = float(result.anomaly.max(initial=0.0))

    # The row says one event; the others are counted and can be searched for.
    return OverviewRow(
        link=link,
        name=result.name,
        summary=text.describe_event(event) if event else text.summarize(result),
        words=" ".join([result.name, *(e.category for e in result.events)]),
        thumbnail=data_uri(shrink(cover, THUMBNAIL), JPEG) if cover else "",
        curve=svg_timeline.curve(result.edges, result.anomaly, SPARK_STEPS),
        highest=f"Highest score {highest:.2f}",
        count=count(len(result.events), "event") if result.events else "",
        detected=event is not None,
    )
