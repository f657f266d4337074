"""Tables of image towers and live delays, from the measurements of `benchmark speed`."""

from collections.abc import Sequence
from typing import Any

TOWER_TITLES = (
    *("image tower", "pictures per call", "kind", "ms per picture"),
    *("of float32 with 8", "cosine"),
)
LIVE_TITLES = (
    *("model", "image tower", "window", "snippets", "dropped"),
    *("delay ms", "95 % ms", "tower ms", "model ms"),
)


def tower_rows(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Formats measurements of image towers as rows of a table, without titles.

    Args:
      rows: result of `image_towers.measure_towers`.
    """
    table = []
    for row in rows:
        cosine = f"{row['cosine']:.5f}" if "cosine" in row else ""
        cells = [row["tower"], str(row["batch"]), row["kind"]]
        cells += [f"{1e3 * row['picture_s']:.4g}", f"{row['ratio']:.2f}", cosine]
        table.append(cells)
    return table


def live_rows(name: str, rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Formats measurements of a model's live detection as rows, without titles.

    Args:
      name: name of the model.
      rows: `live` of the result of `live_delay.measure_live`.
    """
    return [
        [
            *(name, row["tower"], str(row["window"])),
            *(str(row["snippets"]), str(row["dropped"])),
            *(f"{1e3 * row[key]:.0f}" for key in ("median_s", "p95_s")),
            *(f"{1e3 * row[key]:.1f}" for key in ("encode_s", "score_s")),
        ]
        for row in rows
    ]
