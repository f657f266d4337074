"""Ground truth as a table: `video,start,end` in seconds, and a class if there are several.

  video,start,end,label
  gate/monday_1130,12.8,24.4,Intrusion
  gate/monday_1130,1:05,1:12.5,Fire

One line per event. Test videos without a line have no event.
"""

import math
import pathlib
import re

from wsvad_jax.data.video_names import normalize_label
from wsvad_jax.datasets.ground_truth import GroundTruth
from wsvad_jax.datasets.split_lists import csv_lines, entry_video_id, find_column
from wsvad_jax.utils.errors import InputError

HEADER = "expected the header video,start,end (in seconds; label is optional)"
CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d{1,2}(?:\.\d+)?)")


def read_csv(path: pathlib.Path) -> dict[str, GroundTruth]:
    """Returns the events of each video that the table names.

    Raises:
      InputError: no such header, or a line that is no event.
    """
    lines = csv_lines(path)
    header = lines[0][1] if lines and lines[0][0] == 1 else []
    if not header:
        raise InputError(f"{path}: {HEADER} in line 1, but it is empty")
    places = [find_column(path, header, name) for name in ("video", "start", "end")]

    # Without a column of labels, events have no class.
    labelled = any(word.lower() == "label" for word in header)
    label_place = find_column(path, header, "label") if labelled else None

    events: dict[str, list[tuple[float, float, str]]] = {}
    for i, words in lines[1:]:
        where = f"{path}:{i}"
        if len(words) != len(header):
            raise InputError(
                f"{where}: expected {','.join(header):.60}, found "
                f"{','.join(words)!r:.80}"
            )
        video, start, end = (words[place] for place in places)
        label = "" if label_place is None else normalize_label(words[label_place])
        if not video:
            raise InputError(f"{where}: the name of the video is missing")

        times = _seconds(start, where), _seconds(end, where)
        if times[0] >= times[1]:
            raise InputError(
                f"{where}: an event from {start} to {end} has no length; expected "
                "start < end, in seconds"
            )
        events.setdefault(entry_video_id(video), []).append((*times, label))
    return {
        video: GroundTruth(str(path), unit="seconds", seconds=tuple(sorted(rows)))
        for video, rows in events.items()
    }


def _seconds(text: str, where: str) -> float:
    """Reads a time such as 75.5 or 1:15.5."""
    if match := CLOCK.fullmatch(text):
        hours, minutes, seconds = match.groups()
        return 3600.0 * int(hours or 0) + 60.0 * int(minutes) + float(seconds)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError(
            f"{where}: {text!r:.40} is no time; expected seconds, such as 75.5 or 1:15.5"
        )
    return value
