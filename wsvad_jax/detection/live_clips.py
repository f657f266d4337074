"""Writes the clips of live events: the packets before an event wait in memory for it.

A thread writes the files, so that scoring never waits for the disk. An event's recording
begins when the event opens, and ends with the margin behind its end.
"""

import contextlib
import dataclasses
import datetime
import os
import pathlib
import re
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wsvad_jax.detection.event_clips import LONGEST_EVENT, ClipFolder
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError, one_line

if TYPE_CHECKING:
    from wsvad_jax.extraction.mp4_writer import PacketWriter
    from wsvad_jax.extraction.packet_ring import PacketRecording, PacketRing

KEPT = 60.0  # seconds kept besides the margin: an event opens after its start
POLL = 0.2  # seconds between looks at what waits
PATIENCE = 30.0  # seconds that the end of a source waits for its clips
MOST_FILE = 2 << 30  # bytes of a file whose packets are encoded at the end
TEMPORARY = re.compile(r"\.recording-\d+\.(mp4|nut)")


@dataclasses.dataclass
class LiveSourceClips:
    """What is known of one source."""

    name: str
    ring: "PacketRing"
    source: str = ""  # as clips.jsonl has it: a file's path, else the name
    began: datetime.datetime | None = None  # time of day at 0 s of a stream


class ClipJob:
    """The clip of one event, from its opening to the finished file."""

    def __init__(
        self, source: LiveSourceClips, recording: "PacketRecording", path: pathlib.Path
    ):
        """Starts with nothing written.

        Args:
          source: source of the event.
          recording: packets.
          path: temporary file.
        """
        self.source, self.recording, self.path = source, recording, path
        self.writer: PacketWriter | None = None
        self.complete = False  # whether the temporary file is
        self.event: dict[str, Any] | None = None  # its closed line
        self.target: pathlib.Path | None = None
        self.written = 0  # bytes

    def step(self) -> None:
        """Writes what waits.

        Raises:
          OSError, InputError, NotCopyableError: the file can't be written.
        """
        if self.complete:
            return
        from wsvad_jax.extraction.mp4_writer import PacketWriter

        made = self.recording.format
        if self.writer is None:
            self.writer = PacketWriter(
                self.path, made.video, made.sound, made.start, made.container
            )
        packets, over = self.source.ring.take(self.recording)
        for packet in packets:
            self.writer.write(packet)
            self.written += len(packet.data)
        if not made.copied and self.written > MOST_FILE:
            self.recording.remark = "the clip ends early, since its packets are large"
            over = True
        if over:
            self.recording.over = self.complete = True
            self.writer.close()

    def abandon(self) -> None:
        """Removes the temporary file."""
        self.recording.over = True
        if self.writer is not None and not self.complete:
            with contextlib.suppress(Exception):
                self.writer.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def cut(self) -> Any:
        """Moves the file to its place, or encodes it there; returns its `Cut`."""
        from wsvad_jax.extraction.cutting import Cut, Cutter

        assert self.writer is not None and self.target is not None
        begin, end = self.writer.seconds
        if self.recording.format.copied:
            with files.atomic_path(self.target) as temporary:
                os.replace(self.path, temporary)
            silence = self.recording.format.silence
            return Cut(self.target, begin, end, copied=True, remark=silence)

        cut = Cutter(self.path).cut(self.target, 0.0, end - begin)
        self.path.unlink()
        return dataclasses.replace(cut, start=begin + cut.start, end=begin + cut.end)


class LiveClips:
    """Clips of the events of live sources; a context manager."""

    def __init__(self, folder: ClipFolder):
        """Removes the temporary files of an earlier run that was killed.

        Args:
          folder: locked folder of the clips.
        """
        self.folder, self.sources = folder, {}
        self.keep = folder.margin + KEPT
        self.changed = threading.Condition()
        self.jobs: list[ClipJob] = []
        self.lines: list[tuple[str, dict[str, Any]]] = []  # not printed yet
        self.stopped, self.count = False, 0
        for path in folder.folder.iterdir():
            if TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "LiveClips":  # noqa: PYI034 (beartype refuses Self here)
        self.thread.start()
        return self

    def __exit__(self, *exc) -> None:
        for source in self.sources.values():
            source.ring.finish()
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
        self.thread.join(PATIENCE)
        for job in self.jobs:
            job.abandon()

    def tap(self, name: str) -> "PacketRing":
        """Returns what gets the packets of a source.

        Args:
          name: name of the source.
        """
        from wsvad_jax.extraction.packet_ring import PacketRing

        ring = PacketRing(self.keep, self._wake)
        self.sources[name] = LiveSourceClips(name, ring)
        return ring

    def before(
        self, name: str, line: dict[str, Any]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields lines about finished clips; adds the clip to the line of an event.

        Args:
          name: name of the source.
          line: line that is printed next; the start line and those of closed events get
            more keys.
        """
        source, kind = self.sources[name], line["type"]
        if kind == "start":
            self._start(source, line)
        elif kind == "opened":
            self._opened(source, line)
        elif kind == "closed":
            line["clip"] = self._closed(source, line)
        elif kind in ("lost", "end"):
            # No packet follows. The last line of a source comes after its clips.
            source.ring.finish()
            self._wake()
            if kind == "end":
                self._wait_for(source)
        with self.changed:
            lines, self.lines = self.lines, []
        yield from lines

    def _start(self, source: LiveSourceClips, line: dict[str, Any]) -> None:
        address = str(line.get("address", line["source"]))
        is_file = "://" not in address and pathlib.Path(address).is_file()
        source.source = address if is_file else source.name
        if not is_file:
            source.began = datetime.datetime.fromisoformat(line["began"])
        line["clips"] = {
            "folder": str(self.folder.folder),
            "margin": self.folder.margin,
            "longest_event": LONGEST_EVENT,
            "seconds_in_memory": self.keep,
            "bytes_in_memory": source.ring.most_bytes,
        }

    def _opened(self, source: LiveSourceClips, line: dict[str, Any]) -> None:
        start, until = self.folder.span(line["start"], float("inf"))
        recording = source.ring.record(start, until)
        if recording is None:
            made = source.ring.format
            why = (made and made.obstacle) or "no key frame came before it"
            when = f"{line['start']:.1f} s"
            self._say(source.name, f"no clip of the event at {when}: {why}")
            return
        with self.changed:
            self.count += 1
            suffix = recording.format.container
            path = self.folder.folder / f".recording-{self.count}.{suffix}"
            self.jobs.append(ClipJob(source, recording, path))
            self.changed.notify_all()

    def _closed(
        self, source: LiveSourceClips, line: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Returns where the clip of an event will be, None without one."""
        with self.changed:
            # The events of a source close in their order.
            jobs = [j for j in self.jobs if j.source is source and j.event is None]
            if not jobs:
                return None
            job = jobs[0]

            when = None
            if source.began is not None:
                moment = source.began + datetime.timedelta(seconds=line["start"])
                when = moment.strftime("%Y-%m-%dT%H-%M-%SZ")
            job.target = self.folder.target(
                source.name, line["start"], line["class"], source.source, when=when
            )
            job.event = dict(line)

            end = self.folder.span(line["start"], line["end"])[1]
        source.ring.end_at(job.recording, end)
        self._wake()

        begin = job.recording.begin
        at = max(line["start"] - begin, 0.0)
        return {
            "path": str(job.target),
            "start": round(begin, 3),
            "event_at": round(at, 3),
        }

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _wait_for(self, source: LiveSourceClips) -> None:
        """Waits until the clips of a source are written."""
        deadline = time.monotonic() + PATIENCE
        with self.changed:
            while any(job.source is source for job in self.jobs):
                left = deadline - time.monotonic()
                if left <= 0 or not self.thread.is_alive():
                    return
                self.changed.wait(min(left, POLL))

    def _say(self, name: str, text: str) -> None:
        with self.changed:
            self.lines.append((name, {"type": "remark", "remark": text}))

    def _run(self) -> None:
        """Writes what waits until everything is written after a stop."""
        while True:
            with self.changed:
                jobs, stopped = list(self.jobs), self.stopped
            done = [job for job in jobs if self._advance(job)]
            with self.changed:
                self.jobs = [job for job in self.jobs if job not in done]
                self.changed.notify_all()
                if stopped:
                    return
                if not done:
                    self.changed.wait(POLL)

    def _advance(self, job: ClipJob) -> bool:
        """Moves a clip on; returns whether it is finished or has failed."""
        try:
            job.step()
            if not job.complete or job.event is None:
                return False
            cut = job.cut()
            event, remarks = job.event, [cut.remark, job.recording.remark]
            if cut.start > event["start"] + 0.1:
                late = cut.start - event["start"]
                remarks.append(
                    f"the first {late:.1f} s of the event were no longer in memory"
                )
            cut = dataclasses.replace(cut, remark="; ".join(filter(None, remarks)))
            source = job.source
            clip = self.folder.add(cut, source.name, source.source, event)
        # One clip that fails must not end the scoring.
        except Exception as e:  # noqa: BLE001
            job.abandon()
            reason = e if isinstance(e, InputError) else one_line(e)
            when = f"{(job.event or {}).get('start', job.recording.begin):.1f} s"
            self._say(job.source.name, f"no clip of the event at {when}: {reason}")
            return True
        with self.changed:
            line = {"type": "clip", "id": event.get("id"), **clip.as_dict()}
            self.lines.append((source.name, line))
        return True
