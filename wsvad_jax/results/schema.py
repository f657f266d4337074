"""Shapes of the files of a run: results, summaries of seeds, curves, notes on data.

They may come from somebody else, so every value that tables and pages show is checked.
"""

import os
import pathlib
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from wsvad_jax.results.results_table import IOUS
from wsvad_jax.utils.files import read_json
from wsvad_jax.utils.json_shapes import (
    MAX_NUMBER,
    Count,
    Number,
    PrintableText,
    Shape,
    Text,
    check_shape,
    expected,
)

Seed = Annotated[int, Field(ge=0)]
# Values of a metric on the resamples of a bootstrap, as text.
Resamples = Annotated[str, StringConstraints(pattern=r"^[01]\.\d+( [01]\.\d+)*$")]


def _metric(value: Any) -> Any:
    if value is None or isinstance(value, bool | str | dict):
        return value
    if isinstance(value, int | float) and abs(value) < MAX_NUMBER:
        return value
    raise expected("a finite number, a text, a switch, an object or null")


class EventMetrics(Shape):
    """Event-level metrics at one IoU; null where undefined."""

    precision: Number | None
    recall: Number | None
    f1: Number | None
    false_alarms_per_hour: Number | None
    delay_mean: Number | None
    delay_median: Number | None


class EventResults(Shape):
    """`events` in results.json (`wsvad_jax.metrics.event_level`)."""

    rules: dict[PrintableText, Number]
    videos: Count
    true: Count
    found: Count
    hours: Number | None
    normal_hours: Number | None
    false_alarms_per_hour_normal: Number | None
    iou: dict[PrintableText, EventMetrics]
    remark: PrintableText = ""
    fps: Number | None = None  # assumed for videos that state none


class GroupResults(Shape):
    """`open_vocabulary` in results.json: base and novel classes."""

    base: list[PrintableText]
    novel: list[PrintableText]
    trained_on: PrintableText
    of_several_classes: Count
    groups: dict[PrintableText, dict[PrintableText, Number | None]]


class Results(Shape, extra="allow"):
    """results.json; keys that aren't named here are further metrics and switches."""

    __pydantic_extra__: dict[Any, Annotated[Any, AfterValidator(_metric)]]

    model: PrintableText
    dataset: PrintableText
    seed: Seed
    protocol: PrintableText
    auc: Number | None
    step: Seed | None = None
    # Average precision per IoU threshold.
    map: (
        Annotated[
            list[Number | None], Field(min_length=len(IOUS), max_length=len(IOUS))
        ]
        | None
    ) = None
    selection: PrintableText = ""
    checkpoint: PrintableText = ""
    device: PrintableText = ""
    dtype: PrintableText = ""  # precision of the products; older versions wrote none
    clip_note: PrintableText = ""  # what the CLIP models were trained on
    remarks: list[PrintableText] = Field(default_factory=list)
    events: EventResults | None = None  # older versions wrote none
    open_vocabulary: GroupResults | None = None  # of runs with base classes


class CollectedRun(Shape):
    """A run in one file, as `report --collect` writes it."""

    results: Any
    config: dict | None = None
    run: dict | None = None


class MetricSummary(Shape):
    """A metric's values over seeds and its bootstrap interval [low, high]."""

    seeds: list[Number | None]
    interval: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None


class EventSummary(Shape):
    """Event-level metrics over seeds."""

    metrics: dict[Text, MetricSummary]
    remark: PrintableText = ""


class Bootstrap(Shape):
    """Resamples that are kept to compare models in pairs."""

    values: dict[Text, Resamples] = Field(default_factory=dict)


class SeedSummary(Shape):
    """summary.json of several seeds (`wsvad_jax.results.seeds`)."""

    dataset: Text
    model: Text
    protocol: Text
    seeds: list[int]
    metrics: dict[Text, MetricSummary]
    events: EventSummary | None = None  # older versions wrote none
    bootstrap: Bootstrap = Bootstrap()

    @model_validator(mode="after")
    def _check_counts(self) -> "SeedSummary":
        events = self.events.metrics if self.events else {}
        for name, metric in [*self.metrics.items(), *events.items()]:
            if len(metric.seeds) != len(self.seeds):
                raise expected(f"a summary in which {name} has one number per seed")
        return self


def read_summary(path: pathlib.Path) -> dict[str, Any]:
    """Returns what `wsvad_jax.results.seeds` wrote.

    Raises:
      InputError: the file is missing or has another shape.
    """
    value = read_json(path)
    advice = "make the summary of the seeds again with train --seeds"
    check_shape(SeedSummary, value, path, advice)
    return value


Share = Annotated[float, Field(ge=0, lt=MAX_NUMBER)]
GridCurve = Annotated[list[Share], Field(min_length=101, max_length=101)]
ScoreBins = Annotated[list[Share], Field(min_length=20, max_length=20)]
ConfidenceBins = Annotated[list[Share], Field(min_length=10, max_length=10)]


class Curves(Shape):
    """curves.json (`wsvad_jax.metrics.curves`); null where undefined."""

    roc: GridCurve | None
    pr: GridCurve | None
    normal: ScoreBins | None
    anomalous: ScoreBins | None
    accuracy: ConfidenceBins | None
    frames: ConfidenceBins | None
    class_ap: dict[Text, Share | None] | None = None


def read_curves(path: pathlib.Path) -> dict[str, Any]:
    """Returns the curves that `evaluate` wrote.

    Raises:
      InputError: the file is missing or has another shape.
    """
    value = read_json(path)
    check_shape(Curves, value, path, "not the curves of a test set; score again")
    return {"class_ap": None, **value}


class RunData(Shape):
    """data.json: which data a run was trained on."""

    content: PrintableText | None = None  # hash of the records
    card: dict | None = None
    features: dict | None = None
    tower: PrintableText | None = None  # hash of the text tower


class ModelNotes(Shape):
    """The part of a model's meta.json that says its data."""

    card: dict | None = None


class RunAbout(Shape):
    """run.json: what training writes about machine, versions and data."""

    dataset: PrintableText | None = None  # hash of its records
    features: dict | None = None


def read_as(
    shape: type[Shape], path: str | os.PathLike, advice: str = ""
) -> dict[str, Any]:
    """Returns a JSON object, as it is.

    Args:
      shape: its expected shape.
      path: JSON file.
      advice: end of the message, what the user should do.

    Raises:
      InputError: the file is missing or has another shape.
    """
    value = read_json(path)
    check_shape(shape, value, path, advice)
    return value
