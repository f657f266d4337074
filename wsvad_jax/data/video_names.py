"""Normalizes names of videos, so that lists, files and ground truth can be compared.

A normalized name is a relative path with `/` separators, composed (NFC) and without the
file's ending. Lists made on Windows have backslashes, file names on a Mac are decomposed,
and both may include the ending.
"""

import difflib
import pathlib
import re
import unicodedata
from collections.abc import Iterable
from typing import TypeVar

from wsvad_jax.utils.errors import InputError

# Endings of files that are searched as videos; FFmpeg determines the format.
EXTENSIONS = frozenset(
    {".264", ".265", ".3g2", ".3gp", ".amv", ".asf", ".av1", ".avi", ".dav", ".divx"}
    | {".dv", ".f4v", ".flv", ".gif", ".h264", ".h265", ".hevc", ".ivf", ".m1v"}
    | {".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mov"}
    | {".mp4", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".nut", ".obu", ".ogm"}
    | {".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m"}
)
FEATURES = ".npy"
# Unicode's ignorable characters, which are invisible. The two joiners stay, since
# Persian and Indian languages need them.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
SIMILAR = 20  # number of names that are compared with all others by letters
Item = TypeVar("Item")


def normalize_name(name: str) -> str:
    """Returns a name in normal form; its ending stays."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/")).strip()
    return str(pathlib.PurePosixPath(name))


def normalize_label(label: str) -> str:
    """Returns a label in normal form, so that labels that look the same are equal.

    It is composed (NFC), has no invisible characters, and has one space between words.
    """
    return " ".join(INVISIBLE.sub("", unicodedata.normalize("NFC", label)).split())


def video_id(name: str) -> str:
    """Returns a video's name without its ending: "day\\a.MP4" gives "day/a".

    One ending of a video or of features is removed. An ending of digits stays, since
    "cam.264" may be number 264.
    """
    name = normalize_name(name)
    suffix = _ending(name)
    if not suffix or suffix[1:].isdigit():
        return name
    return name[: -len(suffix)].rstrip()


def _ending(name: str) -> str:
    suffix = pathlib.PurePosixPath(name).suffix
    known = suffix.lower() in EXTENSIONS or suffix.lower() == FEATURES
    return suffix if known else ""


def index_by_name(items: Iterable[tuple[str, Item]]) -> dict[str, list[Item]]:
    """Maps names to items.

    An item's name is its path without the ending. If no other item has it, the path
    without all endings is a name, too: "a.mp4.mp4" is "a.mp4" and also "a".

    Args:
      items: pairs of relative path and item, usually the file.
    """
    named: dict[str, list[Item]] = {}
    shorter: dict[str, list[Item]] = {}

    for name, item in items:
        named.setdefault(video_id(name), []).append(item)

        stem = normalize_name(name)
        while suffix := _ending(stem):
            stem = stem[: -len(suffix)].rstrip()
            shorter.setdefault(stem, []).append(item)

    # Full names take precedence over shortened ones.
    return shorter | named


class Hints:
    """Suggests existing names for a misspelled one."""

    def __init__(self, there: Iterable[str], folders: Iterable[str] = ()):
        """Indexes the names.

        Args:
          there: existing names.
          folders: folder names that lists may have in front of a name.
        """
        videos = (re.sub(r"__\d+$", "", name) for name in there)  # without crops
        self.there, self.folders = sorted(set(videos)), tuple(folders)
        self.folded: dict[str, str] = {}
        self.ends: dict[str, list[str]] = {}
        for name in self.there:
            self.folded.setdefault(name.casefold(), name)
            self.ends.setdefault(_end(name), []).append(name)
        self.left = SIMILAR

    def __call__(self, name: str) -> str:
        """Returns a suggestion for an unknown name, "" if no name is similar."""
        for folder in self.folders:
            below = name.rpartition(f"{folder}/")[2]
            if below != name and below.casefold() in self.folded:
                near = self.folded[below.casefold()]
                return f"did you mean {near}, without {folder}/?"

        if same := self.folded.get(name.casefold()):
            return f"did you mean {same}? upper and lower case differ"
        if same := self.ends.get(_end(name)):
            return f"did you mean {' or '.join(same[:2])}? names have their folders"

        # Comparing letters takes long in large folders, so few names get it.
        self.left -= 1
        near = difflib.get_close_matches(name, self.there, 1) if self.left >= 0 else ()
        return f"did you mean {near[0]}?" if near else ""

    def add(self, error: InputError, name: str) -> InputError:
        """Returns an error with a suggestion added, if the name doesn't exist."""
        known = self.folded.get(name.casefold()) == name
        question = "" if known else self(name)
        return InputError(f"{error} ({question})") if question else error


def _end(name: str) -> str:
    return name.casefold().rpartition("/")[2]
