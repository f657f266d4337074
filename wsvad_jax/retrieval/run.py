"""Searches and reports the result: the work of the program `search`."""

import contextlib
import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.retrieval.search import Moment, VideoSearch


@dataclasses.dataclass(frozen=True)
class Query:
    """What is searched for: words or a picture file, and how many moments."""

    words: str | None = None
    image: str | None = None
    top: int = 10
    per_video: int | None = None


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """Arguments of `VideoSearch`, which documents them."""

    clip: str | None = None
    fps: float | None = None
    videos: str | None = None
    data_dir: str | None = None


def split_query(
    words: Sequence[str], image: str | None, data_dir: str | None = None
) -> tuple[str | None, list[str]]:
    """Separates the text of a query from the sources.

    Args:
      words: positional arguments; the first is the text unless `image` is passed.
      image: picture file to search for.
      data_dir: folder of prepared datasets, whose names are sources.

    Raises:
      InputError: no text, no source, a text and a picture, or a text in pieces.
    """
    from wsvad_jax.datasets import registry

    there = [os.path.exists(word) for word in words]
    if image is not None:
        if len(words) > 1 and not there[0] and (not words[0] or " " in words[0]):
            raise InputError(
                f"{words[0]!r} and --image are two queries; pass one of them"
            )
        return None, list(words)

    if len(words) == 1:
        missing = "the words to search for, before it"
        if not there[0]:
            missing = "what is searched, after the words: features, videos or found/"
        raise InputError(f"{words[0]!r} is alone; pass {missing}")
    sources = words[1:]
    if there[1] or registry.demo_world(sources[0]) is not None:
        return words[0], list(sources)
    if registry.find_prepared(sources[0], data_dir):
        return words[0], list(sources)

    # The second argument is no source: the order is wrong, or the quotes are missing.
    if there[0] and not any(there[1:]):
        raise InputError(
            f"{words[0]} is a file or folder, and {sources[0]!r} is none; the words to "
            "search for come first"
        )
    if len(sources) > 1:
        size = there.index(True) if any(there) else len(words) - 1
        raise InputError(
            f"{sources[0]!r} is no file or folder; put the words to search for in "
            f'quotes, such as "{" ".join(words[:size])}"'
        )
    return words[0], list(sources)


def search_files(
    sources: Sequence[str],
    query: Query,
    options: SearchOptions,
    output: pathlib.Path | None = None,
) -> tuple[dict[str, Any], bool]:
    """Searches, prints the moments, and writes the files.

    Args:
      sources: features, videos, results of `detect`, or a prepared dataset.
      query: words or picture.
      options: CLIP model, and where times and pictures come from.
      output: folder of search.html and search.json; None writes no file.

    Returns:
      The content of search.json, and whether every source could be read.

    Raises:
      InputError: see `VideoSearch`.
    """
    from wsvad_jax.extraction.feature_folder import make_folder
    from wsvad_jax.retrieval import queries
    from wsvad_jax.retrieval.search import VideoSearch, check_top

    # What needs no model is checked before one is loaded.
    for name in ("top", "per_video"):
        if (number := getattr(query, name)) is not None:
            check_top(number, name)
    picture = None
    if query.image is not None:
        picture = queries.read_picture(query.image)
    else:
        queries.check_text(query.words or "")

    with contextlib.ExitStack() as stack:
        # Videos may take hours: a folder that can't be written is reported before them.
        if output is not None:
            make_folder(output)
            # Removes the folder again if nothing is written into it.
            stack.enter_context(files.locked(output))

        search = VideoSearch(sources, **dataclasses.asdict(options))
        top, per_video = query.top, query.per_video
        if picture is None:
            moments = search(query.words or "", top=top, per_video=per_video)
        else:
            moments = search.by_picture(picture, top=top, per_video=per_video)

        document = describe(search, query, moments)
        _print(search, document, moments)
        if output is not None:
            _write(output, moments, document, picture)
    return document, not search.library.errors


def describe(
    search: "VideoSearch", query: Query, moments: Sequence["Moment"]
) -> dict[str, Any]:
    """Returns the content of search.json."""
    asked = {"text": (query.words or "").strip()}
    if query.image is not None:
        asked = {"image": query.image}
    limit = search.limit_per_video(query.per_video)
    return {
        "query": asked,
        "videos": len(search.library.videos),
        "snippets": len(search.index),
        "clip_note": search.clip_note(words=query.image is None),
        "remarks": list(search.remarks),
        "settings": {
            "clip": str(search.snapshot.name),
            "features": search.protocol.encoder,
            "crop": search.crops,
            "top": query.top,
            "per_video": "no limit" if limit is None else limit,
        },
        "moments": [moment.as_dict() for moment in moments],
    }


def _print(
    search: "VideoSearch", document: dict[str, Any], moments: Sequence["Moment"]
) -> None:
    """Prints the moments as a table; notes and what was left out go to stderr."""
    from wsvad_jax.detection.report.text import format_span
    from wsvad_jax.utils.text import aligned, count

    for error in search.library.errors:
        print(f"skipped: {error}", file=sys.stderr)
    for note in (document["clip_note"], *document["remarks"]):
        if note:
            print(f"note: {note}", file=sys.stderr)

    rows = [("rank", "cosine", "time", "video")]
    for moment in moments:
        span = format_span(moment.start, moment.end)
        rows.append((str(moment.rank), f"{moment.score:.3f}", span, moment.video))
    print("\n".join(aligned(rows, left={3})))
    searched = f"{count(document['snippets'], 'snippet')} of "
    print(f"searched: {searched}{count(document['videos'], 'video')}")


def _write(
    output: pathlib.Path,
    moments: Sequence["Moment"],
    document: dict[str, Any],
    picture: Any,
) -> None:
    """Writes page and JSON into a folder."""
    from wsvad_jax.detection.report.key_frames import to_jpeg
    from wsvad_jax.retrieval import report

    example = None if picture is None else to_jpeg(picture, report.WIDTH)
    path = report.write(output, moments, document, example)
    print(f"page: {path}; search.json is beside it")
