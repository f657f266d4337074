"""Writes the result of a search: search.json, and search.html with pictures.

The page is one file that loads nothing from elsewhere.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from wsvad_jax.detection.report.key_frames import key_frames
from wsvad_jax.detection.report.text import format_setting, format_span
from wsvad_jax.detection.report.video_section import JPEG, file_link
from wsvad_jax.retrieval.search import Moment
from wsvad_jax.utils import files
from wsvad_jax.utils.html import data_uri, write_document
from wsvad_jax.utils.progress import Progress
from wsvad_jax.utils.text import clock, count

TEMPLATE = "search.html"
STYLES = ("report.css", "search.css")
WIDTH = 480  # pixels of a picture


@dataclasses.dataclass(frozen=True)
class MomentCard:
    """What the page shows of one moment."""

    rank: int
    video: str
    time_span: str
    at: str  # time of the picture
    score: str
    picture: str  # as an address; "" where no video was found
    link: str  # address of the video at that time; "" without a file


def write(
    output: pathlib.Path,
    moments: Sequence[Moment],
    document: Mapping[str, Any],
    example: bytes | None = None,
) -> pathlib.Path:
    """Writes search.json and search.html; returns the path of the page.

    Args:
      output: folder of the files.
      moments: result of the search.
      document: the same with query and settings, as in search.json.
      example: JPEG of the picture that was searched for.
    """
    path = output / "search.html"
    cards = moment_cards(moments, output)
    values = page_values(cards, document)
    values["example"] = data_uri(example, JPEG) if example else ""

    # Each file is whole or absent; the page is written last.
    files.write_json(output / "search.json", document)
    write_document(path, TEMPLATE, values, styles=STYLES, script="")
    return path


def page_values(
    cards: Sequence[MomentCard], document: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the values of the template, without the example picture."""
    query = document["query"]
    searched = f"{count(document['videos'], 'video')}, "
    searched += count(document["snippets"], "snippet")
    listed = [
        (name.replace("_", " "), format_setting(value))
        for name, value in document["settings"].items()
    ]
    return {
        "title": f"Search: {query.get('text') or query.get('image')}",
        "words": query.get("text", ""),
        "facts": [count(len(cards), "moment"), f"of {searched}"],
        "notes": [*filter(None, [document["clip_note"]]), *document["remarks"]],
        "cards": cards,
        "settings": listed,
    }


def moment_cards(moments: Sequence[Moment], folder: pathlib.Path) -> list[MomentCard]:
    """Returns what the page shows of each moment, with a picture of its best snippet."""
    pictures = _pictures(moments)
    return [
        MomentCard(
            moment.rank,
            moment.video,
            format_span(moment.start, moment.end),
            clock(moment.peak, tenths=True),
            f"{moment.score:.3f}",
            data_uri(jpeg, JPEG) if (jpeg := pictures.get(moment.rank)) else "",
            _link(moment, folder),
        )
        for moment in moments
    ]


def _pictures(moments: Sequence[Moment]) -> dict[int, bytes | None]:
    """Returns a JPEG per rank; each video is read once."""
    by_video: dict[pathlib.Path, list[Moment]] = {}
    for moment in moments:
        if moment.path is not None:
            by_video.setdefault(moment.path, []).append(moment)

    pictures: dict[int, bytes | None] = {}
    with Progress("pictures", len(by_video), unit="video") as progress:
        for path, found in by_video.items():
            jpegs = key_frames(path, [moment.peak for moment in found], width=WIDTH)
            pictures |= {m.rank: jpeg for m, jpeg in zip(found, jpegs, strict=True)}
            progress.update()
    return pictures


def _link(moment: Moment, folder: pathlib.Path) -> str:
    """Returns the video's address with the moment's start, as players understand it."""
    if moment.path is None:
        return ""
    return f"{file_link(moment.path, folder)}#t={moment.start:.1f}"
