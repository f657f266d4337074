"""The look of figures for papers, and the files that they are saved as.

A figure is as wide as a column of a two-column page, and its smallest letters have 8
points at that width. Colours are Okabe and Ito's, which people with colour blindness
tell apart; beyond seven classes, markers and dashes differ, too.
"""

import pathlib
from typing import TYPE_CHECKING, Any

from wsvad_jax.evaluation import plots
from wsvad_jax.utils.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 3.4  # inches, of a column
FORMATS = ("png", "svg", "pdf")
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS, DASHES = ("o", "^", "s", "D"), ("-", (0, (4, 1.5)), (0, (1, 1)), "-.")
NORMAL = "#B0B0B0"
STYLE: dict[Any, Any] = plots.STYLE | {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.linewidth": 0.6,
    "pdf.fonttype": 42,  # journals refuse fonts of type 3
    "svg.hashsalt": "wsvad_jax",  # the same figure gives the same file
}
# Dates would make two equal figures differ.
METADATA: dict[str, dict[str, Any]] = {
    "png": {},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


def class_color(c: int) -> str:
    """Returns the colour of class `c`, 0 normal."""
    return COLORS[(c - 1) % len(COLORS)] if c else NORMAL


def class_marker(c: int) -> str:
    """Returns the marker of class `c`, which differs where the colour repeats."""
    return MARKERS[max(c - 1, 0) // len(COLORS) % len(MARKERS)]


def class_dashes(c: int) -> Any:
    """Returns the line style of class `c`, which differs where the colour repeats."""
    return DASHES[max(c - 1, 0) // len(COLORS) % len(DASHES)]


def save(figure: "Figure", folder: pathlib.Path, name: str) -> list[str]:
    """Writes a figure in each format; returns the names of the files.

    Args:
      figure: figure to save.
      folder: folder of the files.
      name: name of the files without their ending.
    """
    files = []
    for kind in FORMATS:
        files.append(f"{name}.{kind}")
        with atomic_path(folder / files[-1]) as temporary:
            figure.savefig(
                temporary,
                format=kind,
                dpi=300,
                facecolor="white",
                metadata=METADATA[kind],
            )
    return files
