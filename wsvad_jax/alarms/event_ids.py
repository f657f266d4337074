"""Ids of events: equal in each run over a file, different for each event of a stream."""

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
from typing import Any

ENDS = 65536  # bytes at both ends of a file that are hashed


@dataclasses.dataclass(frozen=True)
class Origin:
    """What seconds of a source are counted from."""

    name: str  # of the source, without secrets
    mark: str  # of a file's content; "" for a stream
    began: str = ""  # time of day at 0 s of a stream, ISO 8601; "" for a file

    def event_id(self, model: str, start: float) -> str:
        """Returns the id of an event.

        Args:
          model: mark of the model, see `mark_of`.
          start: start of the event, in seconds.
        """
        # The number of a stream's seconds repeats with each start, its time doesn't.
        parts = [self.name, self.mark or self.began, model, f"{start:.3f}"]
        return hash_of(json.dumps(parts))

    def time_of(self, seconds: float | None) -> str | None:
        """Returns the time of day at a second of a stream; None for a file."""
        if not self.began or seconds is None:
            return None
        try:
            began = datetime.datetime.fromisoformat(self.began)
            time = began + datetime.timedelta(seconds=seconds)
        except (ValueError, OverflowError):
            return None
        return time.isoformat(timespec="milliseconds")


def origin_of(name: str, address: str, began: str = "") -> Origin:
    """Returns what seconds of a source are counted from.

    Args:
      name: name of the source.
      address: file, or address of a stream.
      began: time of day at which a stream began, ISO 8601.
    """
    if "://" not in address and pathlib.Path(address).is_file():
        return Origin(name, file_mark(address))
    return Origin(name, "", began)


def hash_of(text: str) -> str:
    """Returns a short hash of a text."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def mark_of(identity: Any) -> str:
    """Returns the mark of a model, from its identity as JSON."""
    return hash_of(json.dumps(identity, sort_keys=True))


def file_mark(path: str | os.PathLike) -> str:
    """Returns a mark of a file's content: its size, first and last bytes.

    A copy of the file under another path has the same mark. "" if it can't be read.
    """
    try:
        size = pathlib.Path(path).stat().st_size
        with open(path, "rb") as file:
            digest = hashlib.blake2b(file.read(ENDS), digest_size=16)
            file.seek(max(size - ENDS, 0))
            digest.update(file.read(ENDS))
    except OSError:
        return ""
    digest.update(str(size).encode())
    return digest.hexdigest()
