"""Draws the ROC and precision-recall curves of each class, and their areas."""

import pathlib
from collections.abc import Mapping, Sequence

from wsvad_jax.evaluation.figures import style
from wsvad_jax.evaluation.figures.embedding_plot import LEGEND_LINE, short_name
from wsvad_jax.metrics.class_curves import ClassCurve
from wsvad_jax.utils.fonts import drawing


def draw_curves(
    folder: pathlib.Path,
    name: str,
    curves: Sequence[ClassCurve],
    class_index: Mapping[str, int],
    kind: str,
    title: str,
) -> list[str]:
    """Writes one figure of all classes' curves; returns the names of its files.

    Args:
      folder: folder of the files.
      name: name of the files without their ending.
      curves: curves of the classes.
      class_index: index of each class, by its name.
      kind: `roc` or `pr`.
      title: title of the figure.
    """
    from matplotlib.figure import Figure

    # The best class first, as the eye meets the curves.
    area = "auc" if kind == "roc" else "ap"
    curves = sorted(curves, key=lambda curve: -getattr(curve, area))
    labels = [f"{getattr(c, area):.3f}  {short_name(c.name)}" for c in curves]
    columns = 2 if max(map(len, labels)) <= 24 and len(labels) > 3 else 1

    with drawing(style.STYLE, [title, *(c.name for c in curves)]):
        lines = -(-len(curves) // columns)
        height = style.WIDTH * 0.85 + 0.3 + LEGEND_LINE * lines
        figure = Figure((style.WIDTH, height), layout="constrained")
        ax = figure.subplots()

        for curve in curves:
            c = class_index[curve.name]
            look = {"color": style.class_color(c), "linestyle": style.class_dashes(c)}
            if kind == "roc":
                ax.plot(curve.fpr, curve.tpr, linewidth=1.2, **look)
            else:
                ax.step(
                    curve.recall, curve.precision, where="pre", linewidth=1.2, **look
                )
        if kind == "roc":
            ax.plot([0, 1], [0, 1], color=style.NORMAL, linewidth=0.8, zorder=0)

        names = {
            "roc": ("false positive rate", "true positive rate"),
            "pr": ("recall", "precision"),
        }
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
        ax.set(xlabel=names[kind][0], ylabel=names[kind][1], title=title)
        ax.grid(True, linewidth=0.5)
        ax.set_axisbelow(True)
        figure.legend(
            ax.lines[: len(curves)],
            labels,
            loc="outside lower center",
            ncols=columns,
            columnspacing=1.0,
            handlelength=1.6,
            handletextpad=0.4,
            borderpad=0.1,
        )
        return style.save(figure, folder, name)


def draw_areas(
    folder: pathlib.Path,
    name: str,
    curves: Sequence[ClassCurve],
    class_index: Mapping[str, int],
    overall: float | None,
    title: str,
) -> list[str]:
    """Writes a figure of each class's frame AUC; returns the names of its files.

    Args:
      folder: folder of the files.
      name: name of the files without their ending.
      curves: curves of the anomaly score, against normal frames.
      class_index: index of each class, by its name.
      overall: frame AUC over all classes; None if undefined.
      title: title of the figure.
    """
    from matplotlib.figure import Figure

    curves = sorted(curves, key=lambda curve: curve.auc)
    labels = [f"{short_name(c.name)} ({c.videos})" for c in curves]

    with drawing(style.STYLE, [title, *(c.name for c in curves)]):
        height = 1.05 + 0.2 * len(curves)
        figure = Figure((style.WIDTH, height), layout="constrained")
        ax = figure.subplots()

        # Dots on a scale: bars would have to begin at 0.
        for y, curve in enumerate(curves):
            c = class_index[curve.name]
            ax.plot([0, 1], [y, y], color="#E6E6E6", linewidth=0.6, zorder=0)
            ax.plot(
                curve.auc,
                y,
                linestyle="",
                marker=style.class_marker(c),
                markersize=5,
                color=style.class_color(c),
            )
        marks = [ax.axvline(0.5, color=style.NORMAL, linewidth=0.8, label="chance")]
        if overall is not None:
            look = {"color": "black", "linewidth": 0.8, "linestyle": (0, (4, 2))}
            label = f"all classes {overall:.3f}"
            marks.append(ax.axvline(overall, label=label, **look))

        low = min([0.5, *(c.auc for c in curves)])
        ax.set_xlim(max(low - 0.05, -0.01), 1.01)
        ax.set_ylim(-0.6, len(curves) - 0.4)
        ax.set_yticks(range(len(curves)), labels)
        ax.tick_params(axis="y", length=0)
        ax.set(xlabel="frame AUC against normal frames", title=title)
        figure.legend(handles=marks, loc="outside lower center", ncols=2)
        return style.save(figure, folder, name)
