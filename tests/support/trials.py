"""Tries file contents with a reader: valid ones, and mutations of them.

A `Reader` writes a valid folder, and reads it with one file replaced. Whatever the file
contains, reading must end soon and with little memory. It returns a value, or raises an
`InputError` with one line that names the file.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from wsvad_jax.utils.errors import InputError

Read = Callable[[pathlib.Path], Any]


@dataclasses.dataclass(frozen=True)
class Reader:
    """One kind of file: a folder that is right, and what reads it."""

    file: str  # which one is replaced, relative to the folder
    write: Callable[[pathlib.Path], Any]  # the folder
    read: Read  # given the file's path
    seconds: float = 5.0  # that one input may take
    others: Callable[[], list[bytes]] = list  # further contents that are right


class Trial:
    """A reader's folder, in which one file after another is tried."""

    def __init__(self, reader: Reader, folder: pathlib.Path):
        self.reader, self.path = reader, folder / reader.file
        reader.write(folder)
        self.samples = [self.path.read_bytes(), *reader.others()]
        reader.read(self.path)  # imports what is imported on first use
        self.slowest = 0.0

    def __call__(self, data: bytes) -> bool:
        """Whether `data` is accepted; raises AssertionError where rules are broken."""
        self.path.write_bytes(data)
        start = time.process_time()  # not of a busy machine
        try:
            with open(os.devnull, "w") as nothing, contextlib.redirect_stderr(nothing):
                self.reader.read(self.path)
        except InputError as e:
            name = self.path.name
            named = (name, str(self.path.parent), str(self.path.with_suffix("")))
            # A truth that lacks a video is named by the video.
            whose = any(part in str(e) for part in named) or "video " in str(e)
            assert whose, f"{e} doesn't name {name}"
            assert "\n" not in str(e) and len(str(e)) < 11000, len(str(e))
            return False
        finally:
            took = time.process_time() - start
            self.slowest = max(self.slowest, took)
        assert took < self.reader.seconds, f"took {took:.1f} s"
        return True


# What readers stumble over: sizes, signs, quotes, nesting, markup, foreign encodings.
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 1e308, float("nan"), float("inf"), 10**25, -(2**63)),
    *("", " ", "\0", "\ud800", "a\nb", "../../x", "/etc/passwd", "<script>alert(1)"),
    *("nan", "é" * 300, [], {}, [[]], {"": None}, [[0, 1]] * 3, ["a", 1, None]),
)
PIECES = (
    *(b"\0", b"\xff" * 8, b"\x80", b"-1", b"9" * 30, b"1e999", b"NaN", b'"', b"'"),
    *(
        b",",
        b";",
        b"\r",
        b"\n\n",
        b"[",
        b"{",
        b"}",
        b"(",
        b")",
        b"../",
        b"\xef\xbb\xbf",
    ),
    *(b"<script>", b"\\ud800", b"\xff\xfe", b"99999999999999999999", b"[" * 3000),
    *(b"9" * 5000, b"[" * 900 + b"0" + b"]" * 900, b'{"a":' * 300 + b"0" + b"}" * 300),
)


def mutated(data: bytes, r: random.Random) -> bytes:
    """`data` with a few things changed: a value of its JSON, or some of its bytes."""
    if r.random() < 0.5:
        with contextlib.suppress(ValueError, RecursionError):
            value = [json.loads(data)]
            for _ in range(r.choice((1, 1, 2, 4))):
                _change(value, r)
            return json.dumps(value[0] if value else None).encode()
    found = bytearray(data)
    for _ in range(r.choice((1, 1, 2, 5, 20))):
        at, n = r.randrange(len(found) + 1), r.choice((1, 2, 4, 8, 64, 1000))
        change = r.randrange(6)
        if change == 0 and at < len(found):
            found[at] ^= 1 << r.randrange(8)
        elif change == 1:
            del found[at : at + n]
        elif change == 2:
            found[at:at] = r.choice(PIECES)
        elif change == 3:
            found[at : at + n] = r.randbytes(min(n, 8))
        elif change == 4:
            found[at:at] = found[max(at - n, 0) : at]
        elif r.random() < 0.2:
            del found[at:]
    return bytes(found)


def _change(value: Any, r: random.Random) -> None:
    """Replaces, removes or doubles a node somewhere below `value`, a list or a dict."""
    while True:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        if not keys:
            return
        key = r.choice(keys)
        child = value[key]
        if isinstance(child, list | dict) and child and r.random() < 0.75:
            value = child
            continue
        change = r.randrange(8)
        if change == 0:
            del value[key]
        elif change == 1 and isinstance(value, list):
            value.append(child)
        elif change == 2 and isinstance(value, dict):
            value[r.choice(("x", "", "name", str(key).upper()))] = value.pop(key)
        elif change == 3 and isinstance(child, int | float):
            value[key] = r.choice((-child, 10 * child, 10**6 * child, 10**400))
        else:
            value[key] = r.choice(VALUES)
        return


def inputs(trial: Trial, seed: int, count: int) -> Iterator[bytes]:
    """`count` mutations of the contents that are right."""
    r = random.Random(seed)
    for _ in range(count):
        yield mutated(r.choice(trial.samples), r)
