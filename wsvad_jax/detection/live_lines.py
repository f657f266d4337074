"""The lines about one live source: its start, snippets, events, losses and end."""

import datetime
import time
from collections.abc import Iterator
from typing import Any

from wsvad_jax.alarms import event_ids
from wsvad_jax.alarms.event_ids import Origin
from wsvad_jax.detection import drift
from wsvad_jax.detection.calibration import live_rules
from wsvad_jax.detection.hysteresis import Hysteresis
from wsvad_jax.detection.live_scorer import LiveScorer
from wsvad_jax.detection.live_sources import LiveSource
from wsvad_jax.evaluation.categories import snippet_class
from wsvad_jax.evaluation.event_rules import DEFAULT_RULES, EventRules
from wsvad_jax.extraction.live_stream import StreamSnippet, StreamStatus
from wsvad_jax.extraction.live_video import without_password
from wsvad_jax.utils.errors import InputError

STOPPED = "stopped"  # by a signal or the caller, before the source has ended


class SourceLines:
    """Turns the snippets and states of a live source into lines."""

    def __init__(
        self,
        scorer: LiveScorer,
        source: LiveSource,
        rules: EventRules | None = None,
    ):
        """Starts without snippets.

        Args:
          scorer: image tower and model, shared by all sources.
          source: source with its own rules and calibration, if it has any.
          rules: rules of sources that have none; None: the calibration's, or the
            defaults.

        Raises:
          InputError: the calibration was made for another model, for other features or
            rules, or not for live sources.
        """
        self.scorer, self.source = scorer, source
        detector, extractor = scorer.detector, scorer.encoder.extractor
        self.calibration = source.calibration or detector.calibration
        rules = source.rules or rules

        if self.calibration is not None:
            self.calibration.check_way("live")
            self.calibration.check_rules(live_rules(rules or self.calibration.rules))
            rules = self.calibration.rules
            if source.calibration is not None:
                if detector.force:
                    raise InputError(
                        f"{self.calibration.path}: a calibration holds for features made "
                        "in one way, and force accepts others; leave one of the two out"
                    )
                self.calibration.check_model(detector)
            self.calibration.check_features(
                extractor.protocol, extractor.encoder, detector
            )

        self.count = None
        if self.calibration is not None:
            self.count = drift.LiveCount(self.calibration)
        self.origin = Origin(source.name, "")  # known once the source is open
        self.window = scorer.new_window()
        self.events = Hysteresis(
            detector.class_names, rules or DEFAULT_RULES, self.calibration
        )

    def start(self, when_behind: str) -> dict[str, Any]:
        """Returns the first line.

        Args:
          when_behind: what the source does when it is faster: `drop` or `wait`.
        """
        detector, encoder, rules = (
            self.scorer.detector,
            self.scorer.encoder,
            self.events,
        )
        now = datetime.datetime.now(datetime.UTC)
        began = now.isoformat(timespec="milliseconds")
        address = self.source.source
        self.origin = event_ids.origin_of(self.source.name, address, began)

        name = "" if self.calibration is None else self.calibration.name
        notes: dict[str, Any] = {
            "force": "; ".join(detector.forced),
            "dtype": detector.features.precision_note(name),
            "clip_note": detector.clip_note,
        }
        if self.calibration is not None:
            notes |= self.calibration.description()
        return {
            "type": "start",
            "source": without_password(address),
            "began": began,
            **detector.description(),
            "classes": list(detector.class_names),
            "window": detector.T,
            "stride": encoder.stride,
            "high": rules.high,
            "low": rules.low,
            "min_length": rules.min_length,
            "max_gap": rules.max_gap,
            "when_behind": when_behind,
            "causal": detector.causality(),
            "features": encoder.extractor.encoder,
            **{name: text for name, text in notes.items() if text},
        }

    def snippet(
        self, taken: StreamSnippet, anomaly: float, classes: Any
    ) -> Iterator[dict[str, Any]]:
        """Yields the line of a scored snippet, and the lines of events.

        Args:
          taken: snippet with its times.
          anomaly: its score.
          classes: its class probabilities [C], None without classes.
        """
        line = {
            "type": "snippet",
            "time": round(taken.start, 3),
            "end": round(taken.end, 3),
            "anomaly": round(anomaly, 6),
        }
        if classes is not None:
            names = self.scorer.detector.class_names
            line["class"] = snippet_class(anomaly, classes, names, self.events.low)

        line["behind"] = round(time.monotonic() - taken.ready, 3)
        yield line | {"dropped": taken.dropped}
        events = self.events.add(taken.start, taken.end, anomaly, classes)
        yield from self._counted(taken.end - taken.start, self._with_ids(events))

    def status(self, status: StreamStatus) -> Iterator[dict[str, Any]]:
        """Yields the lines about a change of the source that doesn't end it."""
        if status.kind == "lost":
            # The snippets that follow aren't known, so events end here.
            yield from self._with_ids(self.events.close())
            yield {"type": "lost", "reason": status.reason, "again_in": status.wait}
        elif status.kind == "remark":
            yield {"type": "remark", "remark": status.reason}
        else:
            yield {"type": status.kind}

    def end(self, reason: str, dropped: int) -> Iterator[dict[str, Any]]:
        """Yields the lines of events that are open, and the last line.

        Args:
          reason: why nothing follows.
          dropped: number of snippets that were dropped.
        """
        for line in self._counted(0.0, self._with_ids(self.events.close())):
            # Such an event may go on, and a file's next run finds its real end.
            cut = reason == STOPPED and line["type"] == "closed"
            yield line | {"reason": reason} if cut else line
        if self.count is not None and (sentence := self.count.sentence()):
            yield {"type": "remark", "remark": sentence}
        yield {
            "type": "end",
            "reason": reason,
            "snippets": self.window.count,
            "dropped": dropped,
        }

    def _counted(
        self, seconds: float, lines: Iterator[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """Yields the lines of events, and a remark if a day's alarms are unusual."""
        scores = []
        for line in lines:
            if line["type"] == "closed":
                scores.append(line["score"])
            yield line
        if self.count is not None and (sentence := self.count.add(seconds, scores)):
            yield {"type": "remark", "remark": sentence}

    def _with_ids(self, lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yields the lines of events with the event's id."""
        for line in lines:
            event_id = self.origin.event_id(self.scorer.model_mark, line["start"])
            yield {"type": line.pop("type"), "id": event_id, **line}
