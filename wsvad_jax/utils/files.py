"""Writes files atomically, reads text and JSON, locks folders, names the cache."""

import codecs
import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wsvad_jax.utils.errors import FULL_ERRNOS, InputError, raise_if_unreadable

MAX_SUFFIX_BYTES = 16  # longest suffix that a temporary file keeps
BOMS = {  # longer ones first: UTF-32's begins as UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
LOCK_TIMEOUT = 0.2  # seconds
NO_LOCKS_ERRNOS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
# Message of `np.save` if a disk is full.
SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
# Errors of a single path; other files can still be written.
NAME_ERRNOS = frozenset(
    {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ELOOP, errno.ENOTDIR}
    | {errno.EISDIR, errno.EEXIST}
)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path` that replaces it when the block succeeds.

    An exception or a killed process leaves `path` as it was.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)

    # The suffix stays, because writers choose their format by it.
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= MAX_SUFFIX_BYTES else ""
    with full_disk_named(path):
        handle, name = tempfile.mkstemp(
            prefix=f"{temporary_stem(path)}-", suffix=suffix, dir=path.parent
        )
    os.close(handle)
    temporary = pathlib.Path(name)

    try:
        with full_disk_named(path):
            yield temporary
            with open(temporary, "rb") as f:
                os.fsync(f.fileno())

            # mkstemp makes private files; readers of shared folders need the usual mode.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def full_disk_named(path: str | os.PathLike) -> Iterator[None]:
    """Adds `path` to errors about a full disk that the block raises."""
    try:
        yield
    except OSError as e:
        # OSError has no file name here; NumPy's has no errno.
        if e.errno is None and SHORT_WRITE.fullmatch(str(e)):
            why = os.strerror(errno.ENOSPC)
            raise OSError(errno.ENOSPC, why, os.fspath(path)) from None
        if e.errno in FULL_ERRNOS:
            e.filename = os.fspath(path)
        raise


def temporary_stem(path: str | os.PathLike) -> str:
    """Returns the first part of the names of a file's temporary files, before "-".

    It is a short hash of the file's name, since systems limit the length of names.
    """
    name = os.fsencode(os.path.basename(path))
    return f".{hashlib.blake2b(name, digest_size=8).hexdigest()}"


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
    """Locks `folder` for this process; creates it if missing.

    The lock, FOLDER/.lock, is released when the process ends; a left-over file has no
    effect. On filesystems without locks, nothing is locked. A folder that is
    still empty at the end is removed.

    Raises:
      InputError: another process holds the lock.
    """
    import filelock

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    # No soft lock: it would survive a killed process.
    lock = filelock.FileLock(path, fallback_to_soft=False)

    # A short timeout covers the race with a process that releases the lock.
    try:
        lock.acquire(timeout=LOCK_TIMEOUT)
    except filelock.Timeout:
        raise InputError(
            f"{folder}: {_lock_holder(path)} is working in this folder; wait for it, or "
            "choose another"
        ) from None
    except OSError as e:
        if e.errno not in NO_LOCKS_ERRNOS:
            raise

    try:
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()


def _lock_holder(path: pathlib.Path) -> str:
    """Returns what the holder of a lock wrote into its file."""
    try:
        return path.read_text(errors="replace")[:200] or "another process"
    except OSError:
        return "another process"


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8, atomically.

    Characters outside of Unicode, as in some file names, are backslash-escaped.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(
            text, encoding="utf-8", errors="backslashreplace", newline=""
        )


def write_json(path: str | os.PathLike, value: Any, *, indent: int | None = 1) -> None:
    """Writes `value` as JSON, atomically; with `indent` None in one line."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def read_text(path: str | os.PathLike) -> str:
    """Reads text in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises:
      OSError, UnicodeDecodeError: unreadable, or another encoding.
    """
    data = pathlib.Path(path).read_bytes()
    marks = (encoding for mark, encoding in BOMS.items() if data.startswith(mark))
    text = data.decode(next(marks, "utf-8-sig"))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Reads a JSON file, with or without a byte order mark.

    Raises:
      InputError: the file is missing, is not JSON, has a duplicate key, or is
        unreadable (UnreadableError).
    """
    try:
        # Duplicate keys and lone surrogates are errors, too.
        text = read_text(path)
        value = json.loads(text, object_pairs_hook=_object)
        if "\\u" in text:  # only names of files have lone surrogates
            json.dumps(value, ensure_ascii=False).encode(errors="surrogateescape")
        return value

    # Only decoding and JSON errors mean that the file is invalid.
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as e:
        raise_if_unreadable(path, e)
        raise
    except InputError as e:
        raise InputError(f"{path}: {e}") from None
    except (
        ValueError,
        RecursionError,
    ) as e:  # ValueError also covers over-long integers
        raise InputError(f"{path}: expected a JSON file, but {e}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object, after a check that no key is repeated."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found

    # Python's reader would silently take the last value.
    name = next(k for k, n in Counter(k for k, _ in pairs).items() if n > 1)
    values = " and ".join(f"{json.dumps(v):.40}" for k, v in pairs if k == name)
    raise InputError(
        f'the key "{name}" is there twice in one object ({values:.120}); keep one'
    )


def file_digests(folder: str | os.PathLike) -> dict[str, list]:
    """Returns [size, hash] of every file below `folder`, by its relative name."""
    folder = pathlib.Path(folder)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _hash(path) for path in paths}


def digest_mismatch(folder: str | os.PathLike, wanted: Mapping[str, Sequence]) -> str:
    """Describes the first changed file of `folder`; returns "" if none changed.

    Raises:
      UnreadableError: a file can't be read now.
    """
    for name, (size, digest) in wanted.items():
        path = pathlib.Path(folder, name)
        try:
            found = [path.stat().st_size, ""] if path.is_dir() else _hash(path)
        except OSError as e:
            raise_if_unreadable(path, e)
            return f"{name} is missing"

        if found != [size, digest]:
            return f"{name} is not as it was written"
    return ""


def check_all_readable(folder: str | os.PathLike) -> None:
    """Reads every file below `folder`, to check that all are readable.

    Raises:
      UnreadableError: one of them can't be read now.
    """

    def fail(error: OSError) -> None:
        raise_if_unreadable(folder, error)

    # os.walk ignores unreadable folders unless it has a handler.
    for here, _, names in os.walk(folder, onerror=fail):
        for name in names:
            try:
                _hash(pathlib.Path(here, name))
            except OSError as e:
                raise_if_unreadable(pathlib.Path(here, name), e)


def _hash(path: pathlib.Path) -> list:
    with open(path, "rb") as f:
        digest = hashlib.file_digest(f, lambda: hashlib.blake2b(digest_size=16))
        return [f.tell(), digest.hexdigest()]


def move_aside(path: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Moves a file or folder into `folder`; adds a number if the name is taken."""
    folder.mkdir(parents=True, exist_ok=True)
    target, number = folder / path.name, 2
    while target.exists():
        target, number = folder / f"{path.name}-{number}", number + 1
    os.rename(path, target)
    return target


def cache_dir() -> pathlib.Path:
    """Returns the cache folder, for regenerable data.

    `$WSVAD_JAX_CACHE`, else `$XDG_CACHE_HOME/wsvad_jax`, else `~/.cache/wsvad_jax`.
    """
    if own := os.environ.get("WSVAD_JAX_CACHE"):
        return pathlib.Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "wsvad_jax"


@contextlib.contextmanager
def build_folder(parent: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary folder in `parent`, which is removed at the end.

    Move results out of it before the block ends. Folders of builds that were killed are removed.

    Raises:
      OSError: the folder can't be created.
    """
    prefix = f".building-{socket.gethostname()}-"
    for stale in parent.glob(f"{prefix}*"):
        process = stale.name.removeprefix(prefix).partition("-")[0]
        if process.isdigit() and not _alive(int(process)):
            shutil.rmtree(stale, ignore_errors=True)

    name = tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=parent)
    try:
        yield pathlib.Path(name)
    finally:
        shutil.rmtree(name, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True
