"""Calibration of a model on ordinary recordings: calibration.json, and its use.

A calibration holds for the model, the features, the event rules and the way of scoring
that it was made with. It is refused for others, since their scores mean something else.
"""

import dataclasses
import json
import os
import pathlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from wsvad_jax.data import feature_protocols
from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.evaluation.event_rules import LOW, EventRules
from wsvad_jax.evaluation.events import Event
from wsvad_jax.metrics.alarm_rates import (
    PER_DAY,
    PER_VIDEOS,
    AlarmRate,
    BlockScores,
)
from wsvad_jax.utils import files, text
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.json_shapes import Number, PositiveCount, Shape, check_shape

if TYPE_CHECKING:
    from wsvad_jax.detection.video_scorer import VideoScorer

FILE = "calibration.json"
FORMAT, VERSION = "wsvad_jax calibration", 1
AGAIN = "run wsvad calibrate again"
# Ways of scoring: live scores know no later snippet, so they differ from those of files.
WAYS = {"files": "files", "live": "--live"}

Score = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[Number, Field(gt=0)]


class CalibrationFile(Shape):
    """Shape of calibration.json. Keys that follow from others are for readers."""

    format: Literal["wsvad_jax calibration"]
    version: Literal[1]
    made_for: Literal["files", "live"]
    model: dict[str, Any]
    features: dict[str, Any]
    rules: dict[str, Any]
    recordings: PositiveCount
    unit: Literal["per day", "per 100 videos"] = PER_DAY
    block_seconds: Positive | None = None  # None: each block is a video
    wished_per_day: Positive | None = None
    wished_per_100_videos: Positive | None = None
    longest_seconds: Positive | None = None
    threshold: Score
    block_scores: Annotated[list[Score], Field(min_length=1)]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Threshold and false-alarm rates of one model on ordinary recordings."""

    made_for: str  # way of scoring: files or live
    model: dict[str, Any]  # see `model_identity`
    features: FeatureProtocol  # of the recordings
    rules: EventRules
    recordings: int
    blocks: BlockScores
    wish: float  # most false alarms per day, or per 100 videos
    path: pathlib.Path | None = None  # of its file
    longest: float | None = None  # seconds of the longest video, where each is a block

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"the calibration {self.path or 'in memory'}"

    @property
    def threshold(self) -> float:
        """Score above which an event counts.

        Raises:
          InputError: the recordings are too short for the wish.
        """
        return self.blocks.threshold(self.wish)

    @property
    def rate(self) -> AlarmRate:
        """False alarms at the threshold, per day or per 100 videos."""
        return self.blocks.rate_above(self.threshold)

    def counts(self, score: float) -> bool:
        """Whether an event of this score counts."""
        return score > self.threshold

    def apply(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """Returns the events that count, each with its false-alarm rate."""
        return tuple(
            dataclasses.replace(event, alarm_rate=self.blocks.rate_at(event.score))
            for event in events
            if self.counts(event.score)
        )

    def description(self) -> dict[str, object]:
        """Returns what results say of the calibration, by name."""
        blocks = self.blocks
        basis = f"{blocks.amount} of ordinary recordings"
        if blocks.seconds is None:
            basis = text.count(len(blocks.maxima), "ordinary video")
        else:
            basis = f"{basis}, {len(blocks.maxima)} blocks of {blocks.seconds:g} s"
        return {
            "calibration": str(self.path or "in memory"),
            "threshold": round(self.threshold, 4),
            f"false alarms {blocks.unit}": str(self.rate),
            "calibrated on": basis,
        }

    def check_way(self, way: str) -> None:
        """Raises InputError unless the calibration was made for this way of scoring.

        Args:
          way: `files` or `live`.
        """
        if way != self.made_for:
            again = f"{AGAIN} {'with' if way == 'live' else 'without'} --live"
            raise InputError(
                f"{self.path}: made for {WAYS[self.made_for]}, but used for {WAYS[way]}, "
                f"whose scores differ; {again}"
            )

    def check_model(self, scorer: "VideoScorer") -> None:
        """Raises InputError unless the calibration was made with this model."""
        wanted = text.flatten(self.model)
        actual = text.flatten(model_identity(scorer))
        # The model's name says most, then what the calibration knows.
        keys = wanted.keys() | actual.keys()
        for key in sorted(keys, key=lambda k: (k != "name", k not in wanted, k)):
            if wanted.get(key) == actual.get(key):
                continue
            # A trained model and zero-shot CLIP both take words from the user.
            if key.startswith("classes."):
                raise InputError(
                    f"{self.path}: made with other class words: {key[8:]} is "
                    f"{_listed(wanted.get(key))}, and {_listed(actual.get(key))} here; "
                    f"pass those of the calibration, or {AGAIN}"
                )
            raise InputError(
                f"{self.path}: made with another model than {scorer.folder}: {key} "
                f"is {wanted.get(key)}, and {actual.get(key)} here; {AGAIN}"
            )

    def check_features(
        self, protocol: FeatureProtocol, name: str, scorer: "VideoScorer"
    ) -> None:
        """Raises InputError if features were made in another way than the recordings'.

        Another precision is noted: it moves scores by rounding alone.

        Args:
          protocol: protocol of the features.
          name: name of the features, for messages.
          scorer: model, which may score one crop alone.
        """
        crop = scorer.card.test_crop if scorer.mode == "windows" else None
        differs = feature_protocols.difference(protocol, self.features, crop=crop)
        if differs:
            raise InputError(
                f"{name}: features unlike those of the calibration {self.path}: "
                f"{differs}; make them in that way, or {AGAIN}"
            )
        check = scorer.features
        check.note_precision(protocol.dtype, self.features.dtype, self.name)

    def check_rules(self, rules: EventRules) -> None:
        """Raises InputError unless these are the event rules of the calibration."""
        if rules.as_dict() != self.rules.as_dict():
            wanted, actual = self.rules.as_dict(), rules.as_dict()
            differs = ", ".join(
                f"{name} {actual.get(name)} instead of {wanted.get(name)}"
                for name in sorted(wanted.keys() | actual.keys())
                if wanted.get(name) != actual.get(name)
            )
            raise InputError(
                f"{self.path}: made for other event rules: {differs}; leave them out, or "
                f"{AGAIN} with them"
            )


def _listed(prompts: Any) -> str:
    """Words the prompts of a class; a class may be missing."""
    return "|".join(prompts) if prompts else "no class"


def fixed_low(rules: EventRules) -> float:
    """Returns the score at which live events end: `low`, or a default for it."""
    return min(LOW, rules.high) if rules.low is None else rules.low


def live_rules(rules: EventRules) -> EventRules:
    """Returns the rules as live scoring uses them: with fixed levels."""
    return dataclasses.replace(rules, low=fixed_low(rules))


def model_identity(scorer: "VideoScorer") -> dict[str, Any]:
    """Returns what the scores of a model depend on, besides the features."""
    from wsvad_jax.parallel.array_digest import tree_digest

    network = scorer.network
    settings = scorer.config.model.to_dict()
    settings.pop("remat", None)  # it changes memory, not scores
    identity = {
        "name": scorer.meta["model"],
        "weights": tree_digest(scorer.weights.variables),
        "text_tower": (network.text_tower_id or {}).get("hash", ""),
        "classes": {c.name: list(c.prompts) for c in scorer.card.classes},
        "settings": settings,
        "window": scorer.T,
        "scored": scorer.mode,
        "remove_position_bias": network.remove_position_bias,
    }
    return json.loads(json.dumps(identity))  # as a file has it: lists for tuples


def write_calibration(path: pathlib.Path, calibration: Calibration) -> None:
    """Writes calibration.json.

    Args:
      path: file to write.
      calibration: its content.

    Raises:
      InputError: the recordings are too short for the wish.
    """
    blocks, rate = calibration.blocks, calibration.rate
    value = {
        "format": FORMAT,
        "version": VERSION,
        "made_for": calibration.made_for,
        "threshold": calibration.threshold,
        "unit": blocks.unit,
        f"wished_{blocks.unit.replace(' ', '_')}": calibration.wish,
        rate.key: rate.as_dict(),
    }
    # Separate videos have no common time.
    if blocks.seconds is not None:
        value["hours"] = round(blocks.size, 4)
        value["block_seconds"] = blocks.seconds
    if calibration.longest is not None:
        value["longest_seconds"] = round(calibration.longest, 3)

    value |= {
        "recordings": calibration.recordings,
        "rules": {k: v for k, v in vars(calibration.rules).items() if v is not None},
        "model": calibration.model,
        "features": dataclasses.asdict(calibration.features),
        "block_scores": list(blocks.maxima),
    }
    files.write_json(path, value)


def read_calibration(path: Any) -> Calibration:
    """Reads calibration.json, or that of a folder.

    Args:
      path: the file or the folder.

    Raises:
      InputError: no such file, another content, or a threshold that doesn't follow from
        the scores of the blocks.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise InputError(
            f"calibration is {path!r}; expected the folder that wsvad calibrate wrote"
        )
    path = pathlib.Path(path)
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"{path}: no {FILE} there; expected the folder that wsvad calibrate wrote"
        )

    known = check_shape(CalibrationFile, files.read_json(file), file, AGAIN)
    if known.block_scores != sorted(known.block_scores):
        raise InputError(f"{file}: block_scores are not ascending; {AGAIN}")
    wish = _wish_of(known, file)
    try:
        rules = EventRules.from_options(known.rules)
    except InputError as e:
        raise InputError(f"{file}: rules: {e}; {AGAIN}") from None

    calibration = Calibration(
        known.made_for,
        known.model,
        feature_protocols.protocol_from_json(known.features),
        rules,
        known.recordings,
        BlockScores(known.block_seconds, tuple(known.block_scores)),
        wish,
        file,
        known.longest_seconds,
    )
    # An edited number would promise what the recordings don't show.
    if known.threshold != calibration.threshold:
        raise InputError(
            f"{file}: threshold is {known.threshold}, but its blocks give "
            f"{calibration.threshold} for {wish:g} {known.unit}; {AGAIN}"
        )
    return calibration


def _wish_of(known: CalibrationFile, file: pathlib.Path) -> float:
    """Returns the wish in the unit of a file; refuses blocks of another unit."""
    is_videos = known.unit == PER_VIDEOS
    wish = known.wished_per_100_videos if is_videos else known.wished_per_day
    if wish is None:
        key = f"wished_{known.unit.replace(' ', '_')}"
        raise InputError(f"{file}: the key {key} is missing; {AGAIN}")
    if is_videos != (known.block_seconds is None):
        found = "no" if known.block_seconds is None else "the key"
        raise InputError(
            f"{file}: rates are {known.unit}, but there is {found} block_seconds; {AGAIN}"
        )
    if is_videos and len(known.block_scores) != known.recordings:
        raise InputError(
            f"{file}: {len(known.block_scores)} block_scores for {known.recordings} "
            f"videos; {AGAIN}"
        )
    return wish
