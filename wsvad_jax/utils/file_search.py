"""Files below a folder: each folder is read once, and what is passed over is kept."""

import collections
import dataclasses
import os
import pathlib
import re
from collections import Counter
from collections.abc import Collection, Iterator

from wsvad_jax.utils.errors import InputError

# What systems leave in folders; hidden files are passed over as silently.
SYSTEM_FILES = frozenset(
    {"thumbs.db", "desktop.ini", "lost+found", "__macosx", "@eadir", "#recycle"}
    | {"$recycle.bin", "system volume information"}
)
MAX_EXTENSIONS = 6  # endings that are named
EXTENSION = re.compile(r"\.\w{1,12}")  # a text behind a dot may be part of a name
Visit = tuple[
    pathlib.Path, tuple[object, ...], int
]  # folders above it, links on the way


@dataclasses.dataclass
class SkippedFiles:
    """What walks passed over."""

    unread: list[pathlib.Path] = dataclasses.field(default_factory=list)
    errors: list[InputError] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        """Counts the files that are not read, by their endings; "" for none."""
        if not self.unread:
            return ""
        endings = (path.suffix.lower() for path in self.unread)
        kinds = Counter(e if EXTENSION.fullmatch(e) else "no ending" for e in endings)
        ranked = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        parts = [f"{kind} ({n})" for kind, n in ranked[:MAX_EXTENSIONS]]
        count = f"{len(self.unread)} file{'s' * (len(self.unread) > 1)} not read"
        return f"{count}: {', '.join(parts)}{', ...' * (len(kinds) > MAX_EXTENSIONS)}"


def find_files(
    folder: str | os.PathLike,
    endings: Collection[str],
    passed: SkippedFiles | None = None,
    *,
    companions: Collection[str] = (),
    every_name: bool = False,
) -> list[pathlib.Path]:
    """Returns the files of some endings below a folder, in order.

    Links to folders are followed, and every folder is read once: under its own name if
    it has one below `folder`. A folder that is not there holds nothing.

    Args:
      folder: searched with the folders in it.
      endings: in lower case, with their dots.
      passed: takes files of other endings, and errors about what can't be read;
        without it the first of those is raised.
      companions: endings of files that belong to the others, and are not mentioned.
      every_name: also returns the names that files have through links to folders that
        were read already, but not those of links in circles.

    Raises:
      InputError: a folder or a link that can't be read, without `passed`.
    """
    noted = SkippedFiles() if passed is None else passed
    found: list[pathlib.Path] = []
    for path, ending in _files(pathlib.Path(folder), endings, noted, every_name):
        if ending in endings:
            found.append(path)
        elif ending not in companions:
            noted.unread.append(path)
    if passed is None and noted.errors:
        raise noted.errors[0]
    return sorted(found)


def _files(
    folder: pathlib.Path,
    endings: Collection[str],
    passed: SkippedFiles,
    every_name: bool,
) -> Iterator[tuple[pathlib.Path, str]]:
    """Yields all files and their endings, those of linked folders last."""
    seen: set[object] = set()
    # Links wait until the rest is read.
    waiting: collections.deque[Visit] = collections.deque([(folder, (), 0)])
    while waiting:
        path, above, links = waiting.popleft()
        try:
            place = _place(path)
            again = place in seen and not (every_name and links == 1)
            if again or place in above:
                continue
            seen.add(place)
            with os.scandir(path) as entries:
                here = sorted(entries, key=lambda entry: entry.name)
        except OSError as e:
            if links or above or not isinstance(e, FileNotFoundError):
                passed.errors.append(_unreadable(path, e))
            continue

        for entry in here:
            if entry.name.startswith(".") or entry.name.lower() in SYSTEM_FILES:
                continue
            inside = pathlib.Path(entry.path)
            ending = inside.suffix.lower()
            kind = _kind(entry, ending in endings or not ending, passed)
            if kind == "file":
                yield inside, ending
            elif kind and entry.is_symlink():
                waiting.append((inside, (*above, place), links + 1))
            elif kind:
                waiting.appendleft((inside, (*above, place), links))


def _place(path: pathlib.Path) -> object:
    """Returns what two names of one folder have in common."""
    status = path.stat()
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def _kind(entry: os.DirEntry, wanted: bool, passed: SkippedFiles) -> str:
    """Says whether an entry is a file or a folder, "" if it is neither.

    What is neither can't be read, which is an error where it is `wanted`. A pipe would
    be waited for without an end.
    """
    path = pathlib.Path(entry.path)
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        path.stat()
        error = InputError(
            f"{path}: expected a file, but it is a pipe, a socket or a device; it is "
            "left out"
        )
    except FileNotFoundError:
        if not entry.is_symlink():  # it is gone since
            return ""
        error = InputError(
            f"{path}: links to {os.readlink(path)}, which is not there; it is left out"
        )
    except OSError as e:
        error = _unreadable(path, e)
    if wanted:
        passed.errors.append(error)
    else:
        passed.unread.append(path)
    return ""


def _unreadable(path: pathlib.Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: can't be read ({error.strerror}); it is left out, with what is in it"
    )
