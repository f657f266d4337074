"""Table of the results over all, base and novel classes."""

from collections.abc import Mapping
from typing import Any

from wsvad_jax.utils.text import aligned, count, percent

ROWS = {
    "auc": "frame AUC",
    "auc_align": "frame AUC, alignment branch",
    "ap": "AP",
    "ap_align": "AP, alignment branch",
    "top1": "abnormal videos named rightly",
    "map": "mAP AVG, anomaly classes",
}


def base_novel_table(results: Mapping[str, Any]) -> str:
    """Formats `open_vocabulary` of results.json as plain text, in %.

    Args:
      results: value of the key.
    """
    groups = results["groups"]
    rows = [["%", *groups]]
    for key, name in ROWS.items():
        if any(key in values for values in groups.values()):
            cells = [percent(v.get(key), undefined="-") for v in groups.values()]
            rows.append([name, *cells])
    for key, name in (("videos", "test videos"), ("abnormal", "abnormal test videos")):
        rows.append([name, *(str(values[key]) for values in groups.values())])

    base, novel = (", ".join(results[key]) for key in ("base", "novel"))
    title = f"base classes: {base}; novel classes: {novel}; trained on "
    lines = [title + results["trained_on"], *aligned(rows)]
    if several := results["of_several_classes"]:
        lines.append(
            f"{count(several, 'test video')} of several anomaly classes left out"
        )
    return "\n".join(lines)
