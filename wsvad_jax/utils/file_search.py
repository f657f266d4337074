"""Finds files below a folder, and notes which files are skipped."""

import collections
import dataclasses
import os
import pathlib
import re
from collections import Counter
from collections.abc import Collection, Iterator

from wsvad_jax.utils.errors import InputError

# Files that systems leave in folders. They are skipped silently, like hidden files.
SYSTEM_FILES = frozenset(
    {"thumbs.db", "desktop.ini", "lost+found", "__macosx", "@eadir", "#recycle"}
    | {"$recycle.bin", "system volume information"}
)
MAX_EXTENSIONS = 6  # extensions that are listed
EXTENSION = re.compile(r"\.\w{1,12}")  # longer ones are part of a name
# Folder to read, identities of the folders above it, links on the path to it.
Visit = tuple[pathlib.Path, tuple[object, ...], int]


@dataclasses.dataclass
class SkippedFiles:
    """Files that a search skipped, and errors about paths it could not read."""

    unread: list[pathlib.Path] = dataclasses.field(default_factory=list)
    errors: list[InputError] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        """Counts the skipped files by extension; "" for none."""
        if not self.unread:
            return ""

        # The most frequent extensions come first.
        endings = (path.suffix.lower() for path in self.unread)
        kinds = Counter(e if EXTENSION.fullmatch(e) else "no ending" for e in endings)
        ranked = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        parts = [f"{kind} ({n})" for kind, n in ranked[:MAX_EXTENSIONS]]
        count = f"{len(self.unread)} file{'s' * (len(self.unread) > 1)} not read"
        return f"{count}: {', '.join(parts)}{', ...' * (len(kinds) > MAX_EXTENSIONS)}"


def find_files(
    folder: str | os.PathLike,
    endings: Collection[str],
    skipped: SkippedFiles | None = None,
    *,
    companions: Collection[str] = (),
    every_name: bool = False,
) -> list[pathlib.Path]:
    """Returns the files with some extensions below a folder, in order.

    Links to folders are followed, but each folder is read once, if possible by its own
    name. A missing folder has no files.

    Args:
      folder: folder to search, with its subfolders.
      endings: extensions in lower case, with dots.
      skipped: collector of skipped files and errors; None raises the first error.
      companions: extensions of accompanying files, which are skipped silently.
      every_name: whether to return files also by their names through links to folders
        that were read already. Circular links are left out.

    Raises:
      InputError: a folder or link is unreadable, and `skipped` is None.
    """
    collected = SkippedFiles() if skipped is None else skipped
    found: list[pathlib.Path] = []

    # Companions are neither returned nor counted.
    for path, ending in _files(pathlib.Path(folder), endings, collected, every_name):
        if ending in endings:
            found.append(path)
        elif ending not in companions:
            collected.unread.append(path)

    if skipped is None and collected.errors:
        raise collected.errors[0]
    return sorted(found)


def _files(
    folder: pathlib.Path,
    endings: Collection[str],
    skipped: SkippedFiles,
    every_name: bool,
) -> Iterator[tuple[pathlib.Path, str]]:
    """Yields all files with their extensions, those of linked folders last."""
    seen: set[object] = set()
    # Links are followed last, so folders are read by their own names.
    waiting: collections.deque[Visit] = collections.deque([(folder, (), 0)])
    while waiting:
        path, above, links = waiting.popleft()

        # A folder is read again only through one link, and never inside itself.
        try:
            identity = _identity(path)
            again = identity in seen and not (every_name and links == 1)
            if again or identity in above:
                continue
            seen.add(identity)
            with os.scandir(path) as entries:
                here = sorted(entries, key=lambda entry: entry.name)
        except OSError as e:
            if links or above or not isinstance(e, FileNotFoundError):
                skipped.errors.append(_unreadable(path, e))
            continue

        for entry in here:
            if entry.name.startswith(".") or entry.name.lower() in SYSTEM_FILES:
                continue

            inside = pathlib.Path(entry.path)
            ending = inside.suffix.lower()
            kind = _kind(entry, ending in endings or not ending, skipped)
            if kind == "file":
                yield inside, ending
            elif kind and entry.is_symlink():
                waiting.append((inside, (*above, identity), links + 1))
            elif kind:
                waiting.appendleft((inside, (*above, identity), links))


def _identity(path: pathlib.Path) -> object:
    """Returns an identity of a folder that all its names share."""
    status = path.stat()
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def _kind(entry: os.DirEntry, wanted: bool, skipped: SkippedFiles) -> str:
    """Returns "file" or "folder", "" for any other entry.

    Other entries are unreadable (a pipe would block forever). That is an error if the
    entry is `wanted`, by its extension.
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

    # A link may lead to nothing, and a file may be gone since.
    except FileNotFoundError:
        if not entry.is_symlink():  # it was removed meanwhile
            return ""
        error = InputError(
            f"{path}: links to {os.readlink(path)}, which is not there; it is left out"
        )
    except OSError as e:
        error = _unreadable(path, e)

    # Only files that would have been read are worth an error.
    if wanted:
        skipped.errors.append(error)
    else:
        skipped.unread.append(path)
    return ""


def _unreadable(path: pathlib.Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: can't be read ({error.strerror}); it is left out with its content"
    )
