"""Names and settings of live sources, as `--live [NAME=]SOURCE` has them."""

import dataclasses
import pathlib
import re
from collections.abc import Sequence

from wsvad_jax.detection.calibration import Calibration
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.extraction.live_video import without_password
from wsvad_jax.utils.errors import InputError

MAX_NAME = 100  # letters of a source's name


@dataclasses.dataclass(frozen=True)
class LiveSource:
    """A live source with its own name, event rules and calibration."""

    source: str  # camera device, address, file, or - for standard input
    name: str = ""  # "" for one that is derived from the source
    rules: EventRules | None = None  # None: those of all sources
    calibration: Calibration | None = None  # None: the detector's


def parse_source(text: str) -> LiveSource:
    """Reads `SOURCE` or `NAME=SOURCE`.

    An existing file comes first, so that its name may have an equals sign. Addresses
    may have one, too: a name has no slash, colon or question mark.

    Raises:
      InputError: an empty name or source, or a name that is not printable.
    """
    if not text.strip():
        raise InputError(
            "--live is empty; expected a camera's device, an address, a file, or -"
        )
    name, equals, source = text.partition("=")
    if not equals or re.search(r"[/\\:?]", name) or _exists(text):
        return LiveSource(text)

    check_name(name, f"--live {without_password(text)}")
    if not source.strip():
        raise InputError(
            f"--live {text}: no source after the name; expected NAME=SOURCE"
        )
    return LiveSource(source, name)


def _exists(path: str) -> bool:
    try:
        return pathlib.Path(path).exists()
    except (OSError, ValueError):
        return False


def check_name(name: str, where: str) -> None:
    """Raises InputError for a source's name that can't be printed.

    Args:
      name: name of a source.
      where: flag or key, for the message.
    """
    fine = name.strip() == name and 0 < len(name) <= MAX_NAME and name.isprintable()
    if not fine or re.search(r"[/\\:?=]", name) or name in (".", ".."):
        raise InputError(
            f"{where}: {name!r:.120} can't be a source's name; expected 1 to {MAX_NAME} "
            "printable letters without / \\ : ? ="
        )


def with_names(sources: Sequence[LiveSource]) -> list[LiveSource]:
    """Returns the sources with names that are all different.

    Raises:
      InputError: two sources have one name, or share standard input.
    """
    taken: set[str] = set()
    for source in sources:
        if source.name and source.name in taken:
            raise InputError(
                f"two live sources are named {source.name!r}; give each its own name"
            )
        taken.add(source.name)
    # Two readers of a pipe would each get a part of its packets.
    texts = [source.source for source in sources]
    for text in sorted(set(texts)):
        if texts.count(text) > 1 and (text == "-" or pathlib.Path(text).is_fifo()):
            raise InputError(f"{text}: found twice; a pipe can have one reader only")

    # Derived names give way to chosen ones.
    named = []
    for source in sources:
        name = source.name or derived_name(source.source)
        stem, number = name, 1
        while not source.name and name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        named.append(dataclasses.replace(source, name=name))
    return named


def derived_name(source: str) -> str:
    """Returns a name for a source: the file's stem, or host and path of an address."""
    if source == "-":
        return "stdin"
    if "://" in source:
        # Host and path; users, passwords and keys of the address are left out.
        shown = without_password(source)
        address = re.split(r"[?#]", shown.partition("://")[2])[0]
        host, slash, path = address.partition("/")
        name = f"{host.rpartition('@')[2]}{slash}{path}"
    else:
        name = pathlib.Path(source).stem

    name = re.sub(r"[^\w.]+", "-", name).strip("-.")
    return name[:MAX_NAME] or "source"
