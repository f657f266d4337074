"""Names of videos in one form, so that lists, files, truth and features can be compared.

A name is a path below a folder, with `/` between its parts, composed (NFC), and without
the ending of its file. Lists of Windows have backslashes, names of files on a Mac are
decomposed, and either may have the ending or not.
"""

import difflib
import pathlib
import re
import unicodedata
from collections.abc import Iterable
from typing import TypeVar

from wsvad_jax.utils.errors import InputError

# What a file must end with to be taken for a video; FFmpeg decides what is in it.
EXTENSIONS = frozenset(
    {".264", ".265", ".3g2", ".3gp", ".amv", ".asf", ".av1", ".avi", ".dav", ".divx"}
    | {".dv", ".f4v", ".flv", ".gif", ".h264", ".h265", ".hevc", ".ivf", ".m1v"}
    | {".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mov"}
    | {".mp4", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".nut", ".obu", ".ogm"}
    | {".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m"}
)
FEATURES = ".npy"
# Unicode's ignorable characters, which nothing is drawn for. The two joiners stay: words
# of Persian and of Indian languages are written with them.
UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
SIMILAR = 20  # names that are compared with all others, letter by letter
Thing = TypeVar("Thing")


def normalize_name(name: str) -> str:
    """Returns a name in the form in which names are compared; its ending stays."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/")).strip()
    return str(pathlib.PurePosixPath(name))


def normalize_label(label: str) -> str:
    """Returns a label in the form in which labels are compared and kept.

    It is composed (NFC), without characters that can't be seen, and any blanks between
    its words are one space: what looks the same is the same.
    """
    return " ".join(UNSEEN.sub("", unicodedata.normalize("NFC", label)).split())


def video_id(name: str) -> str:
    """Returns a video's name without its ending: "day\\a.MP4" gives "day/a".

    One ending is taken off, of a video or of features. One of digits alone stays, since
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


def index_by_name(found: Iterable[tuple[str, Thing]]) -> dict[str, list[Thing]]:
    """Maps names to what is called so.

    A file is called by its name without its ending. Where no other file is, it is also
    called by what is left without all of them: "a.mp4.mp4" is "a.mp4", and "a" as well.

    Args:
      found: the path below the folder, and the thing, as a rule the file.
    """
    named: dict[str, list[Thing]] = {}
    shorter: dict[str, list[Thing]] = {}
    for name, thing in found:
        named.setdefault(video_id(name), []).append(thing)
        less = normalize_name(name)
        while suffix := _ending(less):
            less = less[: -len(suffix)].rstrip()
            shorter.setdefault(less, []).append(thing)
    return shorter | named


class Hints:
    """Questions about what a name may have been meant to be."""

    def __init__(self, there: Iterable[str], folders: Iterable[str] = ()):
        """`there` are the names there are; some write `folders` in front of them."""
        videos = (re.sub(r"__\d+$", "", name) for name in there)  # less their crops
        self.there, self.folders = sorted(set(videos)), tuple(folders)
        self.folded: dict[str, str] = {}
        self.ends: dict[str, list[str]] = {}
        for name in self.there:
            self.folded.setdefault(name.casefold(), name)
            self.ends.setdefault(_end(name), []).append(name)
        self.left = SIMILAR

    def __call__(self, name: str) -> str:
        """Returns a question about a name that nothing has, "" where nothing is near."""
        for folder in self.folders:
            below = name.rpartition(f"{folder}/")[2]
            if below != name and below.casefold() in self.folded:
                near = self.folded[below.casefold()]
                return f"did you mean {near}, without {folder}/?"
        if same := self.folded.get(name.casefold()):
            return f"did you mean {same}? upper and lower case differ"
        if same := self.ends.get(_end(name)):
            return f"did you mean {' or '.join(same[:2])}? names have their folders"
        self.left -= 1
        near = difflib.get_close_matches(name, self.there, 1) if self.left >= 0 else ()
        return f"did you mean {near[0]}?" if near else ""

    def add(self, error: InputError, name: str) -> InputError:
        """Returns an error about a name, with a question where the name isn't there."""
        known = self.folded.get(name.casefold()) == name
        question = "" if known else self(name)
        return InputError(f"{error} ({question})") if question else error


def _end(name: str) -> str:
    return name.casefold().rpartition("/")[2]
