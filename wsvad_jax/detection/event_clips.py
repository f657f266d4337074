"""Writes a short video per event, with a margin before and after it.

  lobby_0h12m03.5s_Fighting.mp4   a clip: the video's name, the event's start and class
  clips.jsonl                     one line per clip: video, event, and its place in the clip

Files that clips.jsonl doesn't list are never replaced: a clip of that name gets a number.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax.utils import files
from wsvad_jax.utils.errors import FULL_ERRNOS, InputError
from wsvad_jax.utils.text import clock, file_stem

if TYPE_CHECKING:
    from wsvad_jax.detection.result import DetectionResult, EventClip
    from wsvad_jax.evaluation.events import Event
    from wsvad_jax.extraction.cutting import Cut, Cutter

MARGIN = 5.0  # default, seconds
LONGEST_MARGIN = 300.0  # seconds; a live source keeps as many in memory
LONGEST_EVENT = 600.0  # seconds of an event that its clip shows
LIST = "clips.jsonl"


def check_margin(margin: float) -> None:
    """Raises InputError for a margin that isn't 0 to 300 seconds."""
    if not 0 <= margin <= LONGEST_MARGIN:
        raise InputError(
            f"--clip_margin is {margin:g}; expected seconds from 0 to "
            f"{LONGEST_MARGIN:g}, before and after an event"
        )


def check_folder(folder: str | os.PathLike, inputs: Sequence[str]) -> pathlib.Path:
    """Returns the folder of clips as a path.

    Raises:
      InputError: an empty name, a file, a CLIP model, or a folder among the inputs.
    """
    if not os.fspath(folder):
        raise InputError("--clips is empty; expected a folder for the clips of events")
    path = pathlib.Path(folder)
    try:
        path.exists()
    except (OSError, ValueError) as e:
        why = getattr(e, "strerror", None) or e
        raise InputError(
            f"--clips {path}: can't be a folder ({why}); choose another"
        ) from None
    if (path / "config.json").is_file() and not (path / LIST).is_file():
        raise InputError(
            f"--clips {path}: holds a model (config.json); --clip names a CLIP model, "
            "and --clips the folder for the clips of events"
        )
    if path.exists() and not path.is_dir():
        raise InputError(f"--clips {path}: is a file; expected a folder for the clips")

    # The next run over such a folder would score the clips, too.
    for name in inputs:
        if os.path.isdir(name) and path.resolve().is_relative_to(
            pathlib.Path(name).resolve()
        ):
            raise InputError(
                f"--clips {path}: is inside of {name}, whose next run would score the "
                "clips, too; choose a folder elsewhere"
            )
    return path


class ClipFolder:
    """A folder of clips with the list of those that this program wrote."""

    def __init__(self, folder: pathlib.Path, margin: float = MARGIN):
        """Creates the folder, and reads its list.

        Args:
          folder: folder of the clips.
          margin: seconds before and after an event.

        Raises:
          InputError: a margin out of range, a folder that can't be written, or a
            clips.jsonl that is something else.
        """
        from wsvad_jax.extraction.feature_folder import make_folder

        check_margin(margin)
        self.folder, self.margin = make_folder(folder), margin
        self.listed = _read_list(self.folder / LIST)
        self.taken: set[str] = set()

    def span(self, start: float, end: float) -> tuple[float, float]:
        """Returns the seconds of the video that an event's clip shows."""
        return start - self.margin, min(end, start + LONGEST_EVENT) + self.margin

    def target(
        self,
        video: str,
        start: float,
        category: str,
        source: str,
        *,
        when: str | None = None,
    ) -> pathlib.Path:
        """Returns a path for the clip of an event.

        It is free, or has an earlier clip of the same video.

        Args:
          video: name of the video.
          start: start of the event, in seconds.
          category: class of the event.
          source: path of the video, or name of a stream.
          when: time of day of a stream's event; its clips are never replaced.
        """
        tenths = math.floor(max(start, 0.0) * 10 + 0.5)
        minutes, rest = divmod(tenths, 600)
        hours, minutes = divmod(minutes, 60)
        place = when or f"{hours}h{minutes:02d}m{rest / 10:04.1f}s"
        parts = [
            file_stem(video, 48) or "video",
            place,
            file_stem(category, 40) or "event",
        ]
        base, number = "_".join(parts), 1

        name = f"{base}.mp4"
        owner = source if when is None else None
        while name.casefold() in self.taken or not self._free(name, owner):
            number += 1
            name = f"{base}-{number}.mp4"
        self.taken.add(name.casefold())
        return self.folder / name

    def _free(self, name: str, source: str | None) -> bool:
        try:
            found = os.lstat(self.folder / name)
        except FileNotFoundError:
            return True
        known = self.listed.get(name, {})
        # Another file may have replaced the clip since.
        same = source is not None and known.get("source") == source
        return same and known.get("size") == found.st_size

    def add(
        self, cut: "Cut", video: str, source: str, event: Mapping[str, Any]
    ) -> "EventClip":
        """Adds a clip to the list.

        Args:
          cut: the file, as it was written.
          video, source: as `target` takes them.
          event: the event as events.json holds it.
        """
        from wsvad_jax.detection.result import EventClip

        remark = cut.remark
        if event["end"] - event["start"] > LONGEST_EVENT:
            more = (
                f"the event lasts {clock(event['end'] - event['start'])}, of which the "
                f"clip shows the first {clock(LONGEST_EVENT)}"
            )
            remark = "; ".join(filter(None, (more, remark)))
        # The first snippet counts from 0, where the first picture may be later.
        at = max(event["start"] - cut.start, 0.0)
        clip = EventClip(cut.path, cut.start, cut.end, at, cut.copied, remark)

        line = {
            "file": cut.path.name,
            "video": video,
            "source": source,
            "event": {key: event[key] for key in ("start", "end", "class", "score")},
            **clip.as_dict(),
            "size": cut.path.stat().st_size,
        }
        del line["path"]
        self.listed[cut.path.name] = line
        # ASCII, since names of files need not be Unicode.
        with open(self.folder / LIST, "a", encoding="ascii") as f:
            f.write(json.dumps(line) + "\n")
        return clip


def _read_list(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Reads clips.jsonl; the last line of a killed process may be torn.

    Raises:
      InputError: something else has this name.
    """
    if not os.path.lexists(path):
        return {}
    try:
        lines = files.read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(
            f"{path}: can't be read ({e}); choose another folder"
        ) from None

    listed: dict[str, dict[str, Any]] = {}
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            listed[line["file"]] = line
        except (ValueError, TypeError, KeyError, RecursionError):
            if number < len(lines) or number == 1:
                raise InputError(
                    f"{path}: line {number} is none of a list of clips, found "
                    f"{text!r:.60}; choose another folder"
                ) from None
    return listed


def write_clips(
    results: Sequence["DetectionResult"],
    folder: ClipFolder,
    errors: list[InputError],
    *,
    progress: bool = True,
) -> list["DetectionResult"]:
    """Writes the clips of all events; returns the results with their clips.

    Args:
      results: results of videos; those of features have no video to cut.
      folder: folder of the clips.
      errors: receives an error per clip that can't be written.
      progress: whether progress is printed.
    """
    from wsvad_jax.utils.progress import Progress

    total = sum(len(result.events) for result in results if result.path is not None)
    if not total:
        return list(results)
    if not progress:
        return [_with_clips(result, folder, errors, lambda: None) for result in results]
    with Progress("clips", total, unit="clip") as shown:
        return [_with_clips(each, folder, errors, shown.update) for each in results]


def _with_clips(
    result: "DetectionResult", folder: ClipFolder, errors: list[InputError], tick: Any
) -> "DetectionResult":
    """Cuts the events of one video, which is opened once."""
    from wsvad_jax.extraction.cutting import Cutter

    if result.path is None or not result.events:
        return result
    try:
        cutter = Cutter(result.path)
    except InputError as e:
        errors.append(InputError(f"no clips of {result.name}: {e}"))
        return result

    clips: list[EventClip | None] = []
    for event in result.events:
        try:
            clips.append(_clip(cutter, folder, result, event))
        except (InputError, OSError) as e:
            clips.append(None)
            why = e.strerror if isinstance(e, OSError) else e
            when = clock(event.start, tenths=True)
            errors.append(InputError(f"no clip of {result.name} at {when}: {why}"))
            # Each further clip would fill the disk again.
            if isinstance(e, OSError) and e.errno in FULL_ERRNOS:
                break
        tick()
    clips += [None] * (len(result.events) - len(clips))
    return dataclasses.replace(result, clips=tuple(clips))


def _clip(
    cutter: "Cutter",
    folder: ClipFolder,
    result: "DetectionResult",
    event: "Event",
) -> "EventClip":
    from wsvad_jax.detection.result import event_json

    source = str(result.path)
    target = folder.target(result.name, event.start, event.category, source)
    cut = cutter.cut(target, *folder.span(event.start, event.end))
    return folder.add(cut, result.name, source, event_json(event))
