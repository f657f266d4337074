"""Formats the content of results.json as a plain text table."""

from collections.abc import Mapping
from typing import Any

from wsvad_jax.results.base_novel_table import base_novel_table
from wsvad_jax.utils.text import aligned

# Rows of the table, in this order: frames, videos, classes.
NAMES = {
    "auc": "frame AUC",
    "ano_auc": "frame AUC, abnormal videos",
    "ap": "AP (step-wise)",
    "ap_trapezoid": "AP (trapezoidal)",
    "far": "false alarm rate at 0.5",
    "recall@fpr0.01": "recall at 1 % false positives",
    "recall@fpr0.05": "recall at 5 % false positives",
    "video_auc": "video AUC",
    "map": "mAP at IoU",
    "map_avg": "mAP, mean",
    "map_avg_clean": "mAP, mean, anomaly classes only",
}


def metric_title(name: str) -> str:
    """Returns a metric of results.json in words, as "AP (step-wise), alignment branch"."""
    key = name.removesuffix("_align")
    branch = ", alignment branch" if key != name else ""
    return f"{NAMES.get(key, key)}{branch}"


IOUS = ("0.1", "0.2", "0.3", "0.4", "0.5")


def results_table(results: Mapping[str, Any]) -> str:
    """Formats the content of results.json as a plain text table, in %.

    Keys of further branches have a suffix, as in auc_align.
    """
    # Columns are the anomaly score and the curves of further branches.
    curves = _curves(results)
    rows = [["%", *(curve.removeprefix("_") or "anomaly" for curve in curves)]]
    for key, name in NAMES.items():
        if not any(key + curve in results for curve in curves):
            continue

        # One row per IoU threshold; further curves have no classes.
        if key == "map":
            values = results[key] or [None] * len(IOUS)
            for iou, value in zip(IOUS, values, strict=True):
                rest = [""] * (len(curves) - 1)
                rows.append([f"{name} {iou}", _percent(value), *rest])
            continue

        names = [key + curve for curve in curves]
        rows.append(
            [name, *(_percent(results[n]) if n in results else "" for n in names)]
        )

    # A missing number needs its reason, which stands below the table.
    remarks = [f"remark: {text}" for text in results.get("remarks", ())]
    if without_truth(results):
        remarks.append(
            "no ground truth: the times of the test videos' events are unknown"
            if results.get("video_auc") is not None
            else "no ground truth of frames: all test videos are abnormal, and their "
            "events have unknown times or cover all frames"
        )
    if groups := results.get("open_vocabulary"):
        remarks.append(base_novel_table(groups))
    return "\n".join([*_title(results), *aligned(rows), *remarks])


def without_truth(results: Mapping[str, Any]) -> bool:
    """Whether metrics are undefined because the frames' ground truth is unknown.

    Then there is no frame AUC. Either there is a video AUC, or all videos are abnormal
    (no false alarm rate) and have frames of one kind only (no AP).
    """
    if results.get("auc") is not None:
        return False
    abnormal = "far" in results and results["far"] is None
    return results.get("video_auc") is not None or (
        abnormal and results.get("ap") is None
    )


def _curves(results: Mapping[str, Any]) -> list[str]:
    return ["", *(key.removeprefix("auc") for key in results if key.startswith("auc_"))]


def _title(results):
    keys = ("model", "dataset", "seed", "protocol", "step")
    parts = [f"{k} {results[k]}" for k in keys if results.get(k) is not None]
    # The choice of weights is part of the title: selection on the test set must show.
    parts += filter(None, [results.get("selection")])
    return [", ".join(parts)] if parts else []


def _percent(value):
    return "-" if value is None else f"{100 * value:.2f}"
