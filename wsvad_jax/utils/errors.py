"""Errors that a user can cause, and errors that come from the machine."""

import errno
import os
import re
import sys
from collections.abc import Iterator

MAX_LENGTH = 10_000  # characters per message
# A missing file doesn't mean that the machine can't read it.
ABSENT_ERRNOS = (errno.ENOENT, errno.ENOTDIR)
REFUSALS = (PermissionError, TimeoutError, ConnectionError, BlockingIOError)
# Libraries that don't raise OSError state the system's error number in their text.
ERRNO_IN_TEXT = re.compile(r"os_error_code='(\d+)'|\bOS error (\d+)|\(os error (\d+)\)")
OPENED_PATH = re.compile(r'"([^"]+)": [^"\[]*\[os_error_code')
STATUS_CODE = re.compile(
    r"(RESOURCE_EXHAUSTED|PERMISSION_DENIED|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED"
    r"|CANCELLED|UNAUTHENTICATED)\b"
)
OUT_OF_MEMORY_TEXT = re.compile(
    r"(?i)can(?:'t|not) allocate memory|bad_alloc|unable to allocate"
)
FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
FULL_DISK_TEXT = re.compile(r"No space left on device|[Dd]isk quota exceeded")
PATH = re.compile(r"(?:^|[\s'\"(=])((?:/[^\s'\"/:;,)]+)+)")
NO_DEVICE_TEXT = re.compile(
    r"Unable to initialize backend|Unknown backend|No visible \w+ dev"
)


class InputError(ValueError):
    """Invalid input: one sentence with what was found, expected, and what to do.

    Programs print it without a traceback and exit with code 2 (`program.run`). The
    message is one printable line of limited length, whatever file it quotes.
    """

    def __init__(self, message: str):
        text = printable(message)
        if len(text) > MAX_LENGTH:
            half = MAX_LENGTH // 2
            text = f"{text[:half]} … {text[-half:]}"
        super().__init__(text)


class UnreadableError(InputError):
    """A file that this machine can't read now, so its content is unknown.

    Code that replaces or skips damaged files must not catch this error.
    """


def printable(text: str) -> str:
    """Returns `text` in one line, with escapes for unprintable characters."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Preempted(Exception):
    """A run that a termination signal ended early; it resumes from its checkpoint."""


class Interrupted(KeyboardInterrupt):
    """A run that Ctrl-C ended early; says what is saved for the run that resumes."""


def one_line(error: BaseException, most: int = 200) -> str:
    """Returns an error's text in one line of at most `most` characters."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def raise_if_unreadable(path: str | os.PathLike, error: BaseException) -> None:
    """Raises if `error` comes from the machine rather than from the file's content.

    Call it before a file is reported as damaged.

    Args:
      path: file that was read.
      error: error that reading it raised.

    Raises:
      UnreadableError: the machine is the cause; names `path` and the reason.
    """
    if is_missing_device(error):
        raise error
    if why := machine_error_reason(error):
        why = why.removeprefix(f"{path}: ")
        raise UnreadableError(f"{path}: cannot be read now ({why})") from None


def machine_error_reason(error: BaseException) -> str:
    """Returns why this machine can't read or compute, "" if the content may be the cause.

    The reasons are memory, permissions, and disks or servers that don't answer. They
    are looked for in the error and in the errors that caused it.
    """
    for e in error_chain(error):
        # The number is an attribute, or part of the text.
        text = str(e)
        numbered = ERRNO_IN_TEXT.search(text)
        number = int(next(filter(None, numbered.groups()))) if numbered else None

        if isinstance(e, UnreadableError):
            return text
        if isinstance(e, MemoryError) or OUT_OF_MEMORY_TEXT.search(text):
            return f"there is not enough memory: {one_line(e)}"

        # A missing file is no machine error, even if the system reports it.
        if isinstance(e, OSError) and _is_system_error(e.errno):
            return f"{e.filename}: {e.strerror}" if e.filename else f"{e.strerror}"
        if isinstance(e, REFUSALS):
            return one_line(e)

        if number is not None and _is_system_error(number):
            path = OPENED_PATH.search(text)
            return f"{path[1] + ': ' if path else ''}{os.strerror(number)}"

        # JAX and TensorStore have status codes instead of numbers.
        names = {kind.__name__ for kind in type(e).__mro__}
        if number is None and (
            STATUS_CODE.match(text) or names & {"JaxRuntimeError", "XlaRuntimeError"}
        ):
            return one_line(e)
    return ""


def full_disk_path(error: BaseException) -> str | None:
    """Returns the file that a full disk has no room for, "" unknown; None: another error."""
    text = str(error)
    full = isinstance(error, OSError) and error.errno in FULL_ERRNOS
    if not full and not FULL_DISK_TEXT.search(text):
        return None

    # The path is an attribute, or part of the text.
    if isinstance(error, OSError) and error.filename:
        return str(error.filename)
    path = OPENED_PATH.search(text) or PATH.search(text)
    return path[1] if path else ""


def is_missing_device(error: BaseException) -> bool:
    """Whether an error says that JAX finds no device of the requested kind."""
    found = list(error_chain(error))
    if any(
        isinstance(e, RuntimeError) and NO_DEVICE_TEXT.search(str(e)) for e in found
    ):
        return True

    # JAX 0.10 raises without text if it was built without that kind. From another
    # process, the traceback is the text of a cause.
    if not isinstance(error, AssertionError) or str(error):
        return False

    return any("xla_bridge" in str(e) for e in found[1:]) or not _has_device()


def _has_device() -> bool:
    jax = sys.modules.get("jax")
    try:
        return jax is None or bool(jax.devices())
    except Exception:  # noqa: BLE001 any error means that there is none
        return False


def error_chain(error: BaseException) -> Iterator[BaseException]:
    """Yields an error, the errors of a group, and their causes."""
    left, seen = [error], set()
    while left:
        e = left.pop(0)
        # Chains may have circles.
        if id(e) in seen:
            continue
        seen.add(id(e))
        yield e

        # Like a traceback: a cause hides the context, unless both are there.
        left += e.exceptions if isinstance(e, BaseExceptionGroup) else ()
        context = None if e.__suppress_context__ else e.__context__
        left += [x for x in (e.__cause__, context) if x is not None]


def _is_system_error(number: int | None) -> bool:
    """Whether an error number is the system's, other than of a missing file."""
    return number in errno.errorcode and number not in ABSENT_ERRNOS
