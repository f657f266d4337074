"""Which packets of H.264 and H.265 hold a picture.

Some recorders store delimiters, parameter sets and messages as samples of their own.
They are no frames, and a decoder that is given one alone may call it invalid.
"""

from collections.abc import Callable, Iterator
from typing import Any


def detector(context: Any) -> Callable[[Any], bool]:
    """Returns a function that tells whether a packet holds a picture.

    Args:
      context: the track's `av` codec context. Of other codecs than H.264 and H.265
        every packet is taken for a picture.
    """
    if context.name not in ("h264", "hevc"):
        return lambda packet: True
    hevc = context.name == "hevc"
    extra = bytes(context.extradata or b"")
    length = _length_size(extra, hevc)

    def holds_picture(packet: Any) -> bool:
        data = bytes(packet)
        for first in _units(data, length):
            kind = first >> 1 & 63 if hevc else first & 31
            if kind < 32 if hevc else kind in (1, 2, 5, 20):
                return True
        return False

    return holds_picture


def _length_size(extra: bytes, hevc: bool) -> int:
    """Returns the bytes of a unit's length, 0 where units have start codes."""
    at = 21 if hevc else 4
    if len(extra) <= at or extra[0] != 1:
        return 0
    return (extra[at] & 3) + 1


def _units(data: bytes, length: int) -> Iterator[int]:
    """Yields the first byte of each unit."""
    at = 0
    while length and at + length < len(data):
        size = int.from_bytes(data[at : at + length], "big")
        yield data[at + length]
        at += length + size
    while not length and (at := data.find(b"\0\0\1", at)) >= 0 and at + 3 < len(data):
        yield data[at + 3]
        at += 3
