"""Finds the packets of H.264 and H.265 streams that hold a picture.

Some recorders store delimiters, parameter sets and messages as separate samples. These
are no frames, and a decoder may reject one that comes alone.
"""

from collections.abc import Callable, Iterator
from typing import Any

# Types of NAL units that hold no part of a picture.
MESSAGES = {"h264": {6, 7, 8, 9, 10, 11, 12, 13, 15}, "hevc": set(range(32, 41))}


def make_picture_test(context: Any) -> Callable[[Any], bool]:
    """Returns a function that tests whether a packet holds a picture.

    Args:
      context: the track's `av` codec context. Packets of codecs other than H.264 and
        H.265 all count as pictures.
    """
    if context.name not in MESSAGES:
        return lambda packet: True
    hevc, messages = context.name == "hevc", MESSAGES[context.name]
    length = _length_size(bytes(context.extradata or b""), hevc)

    def holds_picture(packet: Any) -> bool:
        kinds = {
            first >> 1 & 63 if hevc else first & 31
            for first in _units(bytes(packet), length)
        }
        # The decoder judges packets that can't be parsed.
        return not kinds or not kinds <= messages

    return holds_picture


def _length_size(extra: bytes, hevc: bool) -> int:
    """Returns the number of bytes of a unit's length; 0 if units have start codes."""
    at = 21 if hevc else 4
    coded = extra[:1] == b"\1" or (hevc and extra[:2] != b"\0\0")
    return (extra[at] & 3) + 1 if coded and len(extra) > at else 0


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
