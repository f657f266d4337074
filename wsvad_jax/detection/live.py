"""Scores live sources: `python -m wsvad_jax.detect --live [NAME=]SOURCE …`.

It prints one line of JSON per snippet, and per event that opens or closes:
  {"type": "start", …}     once the source is open: model, rules, causality, and what
                           --force let through
  {"type": "snippet", "time", "end", "anomaly", "class", "behind", "dropped"}
  {"type": "opened", "id", "start", "class", "score", "time"}
  {"type": "closed", "id", "start", "end", "class", "score", "peak"}
  {"type": "clip", "id", "path", "start", "end", "event_at", "copied", "remark"}
                           the clip of a closed event is written (--clips)
  {"type": "remark", "remark"}   what the reader decided, such as counted time stamps, or
                           that alarms are far from what the calibration promises
  {"type": "lost" | "back" | "end", …}
Times are seconds since the source began. `behind` is the delay between a snippet's last
frame and its line. `dropped` counts the snippets that a faster source has skipped. With
several sources, or a named one, each line has the source's name as `source`, and the
start line the source itself as `address`.

A snippet is scored as the newest in a window of the model's T snippets. A ring buffer
keeps their features. The first windows are padded at their end, as a video's last window
is. Memory doesn't grow with time.

Each source is read by a thread of its own, and is opened again on its own when it is
lost. What is ready at the same time is scored together.
"""

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from wsvad_jax.detection.live_lines import STOPPED, SourceLines
from wsvad_jax.detection.live_scorer import LiveScorer
from wsvad_jax.detection.live_sources import LiveSource, with_names
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.extraction.live_stream import (
    PAUSES,
    SnippetStream,
    StreamSnippet,
    StreamStatus,
    take_all,
)
from wsvad_jax.extraction.live_video import PacketTap
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.detection.detector import Detector
    from wsvad_jax.detection.live_clips import LiveClips

POLL = 0.2  # seconds between looks at whether to stop

# A source's name, and a line about it.
NamedLine = tuple[str, dict[str, Any]]


@runtime_checkable
class Listener(Protocol):
    """Gets what `run` prints; the base of alarms and clips.

    A listener overrides what it needs. The caller that made it also closes it.
    """

    def line(self, source: str, line: dict[str, Any]) -> None:
        """Called with each line before it is printed, in the thread of `run`.

        It must be quick, since scoring waits for it. The line must not be changed.

        Args:
          source: name of the source, also where the line has none.
          line: line as it is printed. Its `type` is `start`, `snippet`, `opened`,
            `closed`, `remark`, `lost`, `back` or `end`. The `closed` line of an event
            comes before `lost` and `end`, so that no event stays open.
        """

    def tap(self, source: str) -> PacketTap | None:
        """Called once per source before it is opened; returns what gets its packets.

        Args:
          source: name of the source.
        """
        return None


class WatchedSource:
    """A source that is read and scored."""

    def __init__(self, lines: SourceLines, stream: SnippetStream, *, labelled: bool):
        """Stores the parts.

        Args:
          lines: lines about the source.
          stream: its snippets.
          labelled: whether lines have the source's name.
        """
        self.lines, self.stream, self.labelled = lines, stream, labelled
        self.name = lines.source.name
        self.started = False  # whether the start line was made

    def named(self, lines: Iterator[dict[str, Any]]) -> Iterator[NamedLine]:
        """Yields the source's name with each line."""
        for line in lines:
            if self.labelled:
                kind = line.pop("type")
                if "source" in line:
                    line = {"address": line.pop("source"), **line}
                line = {"type": kind, "source": self.name, **line}
            yield self.name, line

    def start(self) -> Iterator[dict[str, Any]]:
        """Yields the first line, of a source that is open now."""
        self.started = True
        yield self.lines.start(self.stream.when_behind)

    def end(self, reason: str) -> Iterator[dict[str, Any]]:
        """Yields the last lines; those of a source that never opened are none."""
        if self.started:
            yield from self.lines.end(reason, self.stream.dropped)


def run(
    detector: "Detector",
    source: str | LiveSource | Sequence[str | LiveSource],
    rules: EventRules | None = None,
    *,
    pace: float = 1.0,
    when_behind: str | None = None,
    pauses: tuple[float, float] = PAUSES,
    out: Any = None,
    stop: threading.Event | None = None,
    listeners: Sequence[Listener] = (),
    clips: "LiveClips | None" = None,
) -> int:
    """Scores sources until all end or are stopped; returns the number of snippets.

    Args:
      detector: model.
      source: device of a camera, address, file, or - for standard input; or several.
      rules: what counts as an event; those relative to the usual level have no effect.
        None: the calibration's, or the defaults.
      pace: speed of a file, 1 is real time; 0 is as fast as can be.
      when_behind: what a source does that is faster than the machine: `drop` loses
        snippets, `wait` makes the source wait. None: `wait` where the pace is 0, else
        `drop`.
      pauses: seconds before a lost source is opened again, the first and the longest.
      out: text file for the lines; None is standard output.
      stop: event that ends the scoring when it is set.
      listeners: objects that get each line before it is printed.
      clips: writer of the events' clips, open; None writes none.

    Raises:
      InputError: no such source, or it holds no video. A source that fails after it was
        open gets its last line; the error is raised when the others have ended.
    """
    specs = _specs(source)
    labelled = len(specs) > 1 or bool(specs[0].name)
    scorer = LiveScorer(detector, len(specs))

    # All sources share a condition, so that one loop waits for whichever is first.
    ready = threading.Condition()
    watched = []
    for spec in with_names(specs):
        taps = [tap for each in listeners if (tap := each.tap(spec.name)) is not None]
        taps += [clips.tap(spec.name)] if clips is not None else []
        stream = SnippetStream(
            spec.source,
            frame=scorer.encoder.frame,
            stride=scorer.encoder.stride,
            preprocess=scorer.encoder.preprocess,
            pace=pace,
            pauses=pauses,
            when_behind=when_behind,
            ready=ready,
            taps=taps,
        )
        lines = SourceLines(scorer, spec, rules)
        watched.append(WatchedSource(lines, stream, labelled=labelled))

    encoding = getattr(out or sys.stdout, "encoding", None) or "utf-8"
    unicode = encoding.lower().startswith("utf")
    with contextlib.ExitStack() as stack:
        for each in watched:
            stack.enter_context(each.stream)
        # All threads end at the same time, not one after the other.
        stack.callback(lambda: [each.stream.stop() for each in watched])
        lines = _lines(scorer, watched, stop or threading.Event())
        for name, line in lines if clips is None else _clipped(clips, lines, watched):
            for listener in listeners:
                listener.line(name, line)
            # Letters that the output's encoding lacks are escaped as JSON does it.
            text = json.dumps(line, ensure_ascii=not unicode)
            print(text, file=out, flush=True)
    return sum(each.lines.window.count for each in watched)


def _clipped(
    clips: "LiveClips", lines: Iterator[NamedLine], watched: Sequence[WatchedSource]
) -> Iterator[NamedLine]:
    """Adds the clips to the lines of events, and yields lines about finished ones."""
    sources = {each.name: each for each in watched}
    for name, line in lines:
        for owner, other in clips.before(name, line):
            yield from sources[owner].named(iter([other]))
        yield name, line


def _specs(source: str | LiveSource | Sequence[str | LiveSource]) -> list[LiveSource]:
    given = [source] if isinstance(source, str | LiveSource) else list(source)
    if not given:
        raise InputError("no live source is given; expected at least one")
    return [LiveSource(each) if isinstance(each, str) else each for each in given]


def _lines(
    scorer: LiveScorer, watched: Sequence[WatchedSource], stop: threading.Event
) -> Iterator[NamedLine]:
    """Yields the lines of all sources until they end; raises the first error then."""
    left, error, begun = list(watched), None, True
    while left and begun and not stop.is_set():
        items = take_all([each.stream for each in left], POLL)
        taken = list(zip(left, items, strict=True))

        for each, item in taken:
            if not isinstance(item, StreamStatus):
                continue
            if item.error or item.kind == "ended":
                left.remove(each)
                error = error or item.error
                # Others don't run beside a camera whose address is wrong.
                begun = begun and (each.started or not item.error)
            yield from each.named(_status_lines(each, item))

        yield from _scored(scorer, taken)

    for each in left:
        yield from each.named(each.end(STOPPED))
    if error:
        raise error


def _status_lines(
    each: WatchedSource, status: StreamStatus
) -> Iterator[dict[str, Any]]:
    if status.kind == "open":
        yield from each.start()
    elif status.error:
        yield from each.end(str(status.error))
    elif status.kind == "ended":
        damage = f" ({status.reason})" if status.reason else ""
        yield from each.end(f"the source ended{damage}")
    else:
        yield from each.lines.status(status)


def _scored(
    scorer: LiveScorer, taken: Sequence[tuple[WatchedSource, Any]]
) -> Iterator[NamedLine]:
    """Scores the snippets among what was taken, and yields their lines."""
    new = [(each, item) for each, item in taken if isinstance(item, StreamSnippet)]
    if not new:
        return
    windows = [each.lines.window for each, _ in new]
    scores = scorer.score(windows, [item.snippet.pictures for _, item in new])

    for (each, item), (anomaly, classes) in zip(new, scores, strict=True):
        yield from each.named(each.lines.snippet(item, anomaly, classes))


def run_until_signal(
    detector: "Detector",
    source: str | LiveSource | Sequence[str | LiveSource],
    rules: EventRules | None,
    **options: Any,
) -> None:
    """Scores sources as `run` does; SIGINT and SIGTERM end it with the last lines.

    Args:
      detector, source, rules, **options: as `run` takes them.
    """
    # A second signal must not interrupt the last lines.
    stop = threading.Event()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGINT, signal.SIGTERM):
            before[name] = signal.signal(name, lambda *_: stop.set())

    try:
        run(detector, source, rules, stop=stop, **options)
    except BrokenPipeError:
        # The reader of the lines is gone, and Python would fail again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
