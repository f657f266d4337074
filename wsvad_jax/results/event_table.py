"""Formats event-level metrics (`wsvad_jax.metrics.event_level`) as text, and flattens them."""

from collections.abc import Mapping
from typing import Any

from wsvad_jax.utils.text import aligned, count, hours_or_seconds, percent

# Rows of the printed table; the first ones are fractions.
FRACTIONS = {"precision": "precision, %", "recall": "recall, %", "f1": "F1, %"}
AMOUNTS = {
    "false_alarms_per_hour": "false alarms per hour",
    "delay_mean": "delay, mean, s",
    "delay_median": "delay, median, s",
}
NORMAL_RATE = "false_alarms_per_hour_normal"


def event_table(events: Mapping[str, Any]) -> str:
    """Formats the value of `events` in results.json as a plain text table."""
    ious = events["iou"]
    rows = [["events", *(f"IoU {iou}" for iou in ious)]]
    for key, name in FRACTIONS.items():
        rows.append([name, *(percent(m[key], undefined="-") for m in ious.values())])
    for key, name in AMOUNTS.items():
        rows.append([name, *(amount(m[key], undefined="-") for m in ious.values())])

    # What doesn't depend on the overlap stands below, with the reason for missing times.
    found = count(events["found"], "event")
    videos = count(events["videos"], "video")
    lines = [f"{found} found, {events['true']} true, {videos}"]
    if not events["true"]:
        # Without known events, nothing but false alarms can be counted.
        lines = [f"{found} found in {videos} whose truth is known, all without events"]
    if events[NORMAL_RATE] is not None:
        lines[0] += (
            f"; {amount(events[NORMAL_RATE])} false alarms per hour of normal video "
            f"({hours_or_seconds(events['normal_hours'])} of "
            f"{hours_or_seconds(events['hours'])})"
        )
    if remark := events.get("remark"):
        lines.append(f"remark: {remark}")
    return "\n".join([*aligned(rows), *lines])


def event_values(events: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metrics, of any type, as {'event_f1@0.1': value}."""
    values = {f"event_{NORMAL_RATE}": events[NORMAL_RATE]}
    for iou, metrics in events["iou"].items():
        for key in (*FRACTIONS, *AMOUNTS):
            values[f"event_{key}@{iou}"] = metrics[key]
    return values


def amount(mean: float | None, std: float | None = None, *, undefined: str = "") -> str:
    """Formats a rate or a time as '3.25' or '3.25 ± 0.40'; None as `undefined`."""
    if mean is None:
        return undefined
    return f"{mean:.2f}" + (f" ± {std:.2f}" if std is not None else "")
