"""Scores a live source: `python -m wsvad_jax.detect --live SOURCE`.

It prints one line of JSON per snippet, and per event that opens or closes:
  {"type": "start", …}     model, rules, causality, and what --force let through
  {"type": "snippet", "time", "end", "anomaly", "class", "behind", "dropped"}
  {"type": "opened", "start", "class", "score", "time"}
  {"type": "closed", "start", "end", "class", "score", "peak"}
  {"type": "remark", "remark"}   what the reader decided, such as counted time stamps
  {"type": "lost" | "back" | "end", …}
Times are seconds since the source began. `behind` is the delay between a snippet's last
frame and its line. `dropped` counts the snippets that a faster source has skipped.

A snippet is scored as the newest in a window of the model's T snippets. A ring buffer
keeps their features. The first windows are padded at their end, as a video's last window
is. Memory doesn't grow with time.
"""

import copy
import dataclasses
import datetime
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float16, UInt8

from wsvad_jax.detection.calibration import Calibration, fixed_low, live_rules
from wsvad_jax.detection.causal import Window, scored_crops
from wsvad_jax.evaluation import events
from wsvad_jax.evaluation.events import DEFAULT_RULES, EventRules
from wsvad_jax.extraction.live_stream import (
    PAUSES,
    SnippetStream,
    StreamSnippet,
    StreamStatus,
)

if TYPE_CHECKING:
    from wsvad_jax.detection.detector import Detector

POLL = 0.2  # seconds between looks at whether to stop


class SnippetEncoder:
    """Encodes one snippet at a time with the image tower."""

    def __init__(self, detector: "Detector"):
        """Copies the detector's extractor; its batch is one snippet's pictures."""
        self.extractor = copy.copy(detector.extractor)
        crops = self.extractor.crops

        # Crops that aren't scored need no encoding.
        self.chosen = scored_crops(detector, crops)
        self.crops = self.chosen.stop - self.chosen.start

        self.frame, self.stride = self.extractor.frame, self.extractor.stride
        frames = self.stride if self.frame == "mean" else 1
        self.extractor.batch_size = self.crops * frames

    def preprocess(self, frame: Any) -> UInt8[np.ndarray, "N S S 3"]:
        """Cuts an `av.VideoFrame` into the crops that are scored."""
        return self.extractor.preprocess(frame)[self.chosen]

    def features(
        self, pictures: tuple[UInt8[np.ndarray, "N S S 3"], ...]
    ) -> Float16[np.ndarray, "N D"]:
        """Returns the features of a snippet, the mean over its pictures."""
        features = self.extractor.images(np.concatenate(pictures))
        features = features.reshape(len(pictures), self.crops, -1)
        return (features.sum(0) / len(pictures)).astype(np.float16)


@dataclasses.dataclass
class OpenSegment:
    """A segment of snippets that is or may become an event."""

    start: float
    end: float
    score: float = -1.0
    peak: float = 0.0
    classes: Any = 0.0  # sum of the class probabilities
    after: Any = 0.0  # the same sum over snippets behind its end
    opened: bool = False

    def add(self, start: float, end: float, score: float, classes: Any) -> None:
        """Adds the next snippet."""
        self.end = end
        self.classes = self.classes + (0.0 if classes is None else classes)
        if score > self.score:
            self.score, self.peak = score, (start + end) / 2

    def join(self, later: "OpenSegment") -> "OpenSegment":
        """Joins a later segment to this one, with the snippets between them."""
        best = max(self, later, key=lambda s: s.score)  # the earlier of equals
        return OpenSegment(
            self.start,
            later.end,
            best.score,
            best.peak,
            classes=self.classes + self.after + later.classes,
            opened=self.opened,
        )


class Hysteresis:
    """Finds events by fixed levels snippet by snippet, in constant memory.

    It finds those of `events.find_events`. An event begins with the first snippet of at
    least `low` of a segment that reaches `high`, and ends with the last one. It opens
    as soon as that is known.
    """

    def __init__(
        self,
        class_names: tuple[str, ...],
        rules: EventRules = DEFAULT_RULES,
        calibration: Calibration | None = None,
    ):
        """Starts without snippets.

        Args:
          class_names: names of the classes, normal first.
          rules: what counts as an event. What is relative to a video's usual level has
            no effect, since a live source's isn't known yet.
          calibration: its threshold decides which events open; None opens all.
        """
        self.class_names, self.calibration = class_names, calibration
        self.high, self.low = rules.high, fixed_low(rules)
        self.min_length, self.max_gap = rules.min_length, rules.max_gap
        self.run: OpenSegment | None = (
            None  # snippets of at least low, up to the newest
        )
        self.event: OpenSegment | None = None  # over, unless one follows within max_gap

    def add(
        self, start: float, end: float, score: float, classes: Float[Any, "C"] | None
    ) -> Iterator[dict[str, Any]]:
        """Adds a snippet; yields the lines of events that open or close with it."""
        # The snippet begins a segment or extends it.
        if score >= self.low:
            self.run = self.run or OpenSegment(start, end)
            self.run.add(start, end, score, classes)
            if self.run.score >= self.high:
                yield from self._confirmed(self.run)
            return

        # The snippet ends the segment, which is an event or falls between two.
        if self.run and self.run.score >= self.high:
            self.event = self.run
        elif self.run and self.event:
            self.event.after = self.event.after + self.run.classes
        self.run = None

        # An event is over once no later one can join it.
        if self.event:
            self.event.after = self.event.after + (0.0 if classes is None else classes)
            if not self.max_gap or end - self.event.end > self.max_gap:
                yield from self._over()

    def close(self) -> Iterator[dict[str, Any]]:
        """Ends open events, since no snippet follows."""
        if self.run and self.run.score >= self.high:
            self.event = self.run
        self.run = None
        if self.event:
            yield from self._over()

    def _confirmed(self, run: OpenSegment) -> Iterator[dict[str, Any]]:
        if self.event and run.start - self.event.end <= self.max_gap:
            run = self.run = self.event.join(run)
            self.event = None
        elif self.event:
            yield from self._over()

        if not run.opened and self._counts(run):
            run.opened = True
            line = self._event(run)
            del line["peak"], line["end"]
            yield {"type": "opened", **line, "time": round(run.end, 3)}

    def _over(self) -> Iterator[dict[str, Any]]:
        event, self.event = self.event, None
        if event and self._counts(event):
            yield {"type": "closed", **self._event(event)}

    def _counts(self, segment: OpenSegment) -> bool:
        """Whether a segment is long enough, and above the calibration's threshold."""
        if segment.end - segment.start < self.min_length:
            return False
        return self.calibration is None or self.calibration.counts(segment.score)

    def _event(self, segment: OpenSegment) -> dict[str, Any]:
        classes = None
        if np.ndim(segment.classes):
            classes = np.asarray(segment.classes)[None]
        line: dict[str, Any] = {
            "start": round(segment.start, 3),
            "end": round(segment.end, 3),
            "class": events.category(classes, self.class_names, 0, 1),
            "score": round(segment.score, 4),
            "peak": round(segment.peak, 3),
        }
        if self.calibration is not None:
            rate = self.calibration.blocks.rate_at(segment.score)
            line["false_alarms_per_day"] = rate.as_dict()
        return line


class Live:
    """Turns the snippets of a live source into lines."""

    def __init__(self, detector: "Detector", rules: EventRules | None = None):
        """Compiles the programs, so that the first snippet doesn't wait for them."""
        calibration = detector.calibration
        if calibration is not None:
            calibration.check_way("live")
            calibration.check_rules(live_rules(rules or calibration.rules))
            rules = calibration.rules
        self.detector, self.encoder = detector, SnippetEncoder(detector)
        if calibration is not None:
            extractor = self.encoder.extractor
            calibration.check_features(extractor.protocol, extractor.encoder, detector)
        self.window = Window(self.encoder.crops, detector.T, detector.width)
        self.events = Hysteresis(
            detector.class_names, rules or DEFAULT_RULES, calibration
        )

        # One blank snippet goes through image tower and model.
        size = self.encoder.extractor.config.image_size
        blank = np.zeros((self.encoder.crops, size, size, 3), np.uint8)
        self.encoder.features((blank,))
        one = np.ones(1, np.int32)
        detector.score_windows(self.window.features(), one)

    def start(self, source: str) -> dict[str, Any]:
        """Returns the first line."""
        detector, rules = self.detector, self.events
        notes: dict[str, Any] = {
            "force": "; ".join(detector.forced),
            "clip_note": detector.clip_note,
        }
        if detector.calibration is not None:
            notes |= detector.calibration.description()
        return {
            "type": "start",
            "source": source,
            "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **detector.description(),
            "classes": list(detector.class_names),
            "window": detector.T,
            "stride": self.encoder.stride,
            "high": rules.high,
            "low": rules.low,
            "min_length": rules.min_length,
            "max_gap": rules.max_gap,
            "causal": detector.causality(),
            "features": self.encoder.extractor.encoder,
            **{name: text for name, text in notes.items() if text},
        }

    def add(self, taken: StreamSnippet) -> Iterator[dict[str, Any]]:
        """Encodes and scores a snippet; yields its line and the lines of events."""
        self.window.push(self.encoder.features(taken.snippet.pictures))
        n = self.window.length
        scores = self.detector.score_windows(
            self.window.features(), np.array([n], np.int32)
        )

        anomaly, classes = float(scores.anomaly[0, n - 1]), None
        line = {
            "type": "snippet",
            "time": round(taken.start, 3),
            "end": round(taken.end, 3),
            "anomaly": round(anomaly, 6),
        }
        if scores.classes is not None:
            classes = scores.classes[0, n - 1]
            line["class"] = self.detector.class_names[int(np.argmax(classes))]

        line["behind"] = round(time.monotonic() - taken.ready, 3)
        yield line | {"dropped": taken.dropped}
        yield from self.events.add(taken.start, taken.end, anomaly, classes)


def run(
    detector: "Detector",
    source: str,
    rules: EventRules | None = None,
    *,
    pace: float = 1.0,
    pauses: tuple[float, float] = PAUSES,
    out: Any = None,
    stop: threading.Event | None = None,
) -> int:
    """Scores a source until it ends or is stopped; returns the number of snippets.

    Args:
      detector: model.
      source: device of a camera, address, file, or - for standard input.
      rules: what counts as an event; those relative to the usual level have no effect.
        None: the calibration's, or the defaults.
      pace: speed of a file, 1 is real time; 0 drops no snippet of any source.
      pauses: seconds before a lost source is opened again, the first and the longest.
      out: text file for the lines; None is standard output.
      stop: event that ends the scoring when it is set.

    Raises:
      InputError: no such source, or it holds no video.
    """
    stop = stop or threading.Event()
    live = Live(detector, rules)

    encoding = getattr(out or sys.stdout, "encoding", None) or "utf-8"
    unicode = encoding.lower().startswith("utf")

    with SnippetStream(
        source,
        frame=live.encoder.frame,
        stride=live.encoder.stride,
        preprocess=live.encoder.preprocess,
        pace=pace,
        pauses=pauses,
    ) as stream:
        for line in _lines(live, stream, stop):
            # Letters that the output's encoding lacks are escaped as JSON does it.
            text = json.dumps(line, ensure_ascii=not unicode)
            print(text, file=out, flush=True)
    return live.window.count


def _lines(
    live: Live, stream: SnippetStream, stop: threading.Event
) -> Iterator[dict[str, Any]]:
    yield live.start(stream.source)

    ended = "stopped"
    while not stop.is_set():
        item = stream.take(POLL)
        if isinstance(item, StreamSnippet):
            yield from live.add(item)
        elif isinstance(item, StreamStatus):
            if item.error:
                raise item.error
            if item.kind == "ended":
                damage = f" ({item.reason})" if item.reason else ""
                ended = f"the source ended{damage}"
                break
            yield from _status_lines(live, item)

    yield from live.events.close()
    yield {
        "type": "end",
        "reason": ended,
        "snippets": live.window.count,
        "dropped": stream.dropped,
    }


def _status_lines(live: Live, status: StreamStatus) -> Iterator[dict[str, Any]]:
    """Yields the lines about a change of the source."""
    if status.kind == "lost":
        # The snippets that follow aren't known, so events end here.
        yield from live.events.close()
        yield {"type": "lost", "reason": status.reason, "again_in": status.wait}
    elif status.kind == "remark":
        yield {"type": "remark", "remark": status.reason}
    else:
        yield {"type": status.kind}


def run_until_signal(
    detector: "Detector", source: str, rules: EventRules, *, pace: float
) -> None:
    """Scores a source as `run` does; SIGINT and SIGTERM end it with its last lines.

    Args:
      detector, source, rules, pace: as `run` takes them.
    """
    # A second signal must not interrupt the last lines.
    stop = threading.Event()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGINT, signal.SIGTERM):
            before[name] = signal.signal(name, lambda *_: stop.set())

    try:
        run(detector, source, rules, pace=pace, stop=stop)
    except BrokenPipeError:
        # The reader of the lines is gone, and Python would fail again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
