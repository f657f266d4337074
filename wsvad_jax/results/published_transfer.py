"""Published numbers of models that are trained on one dataset and scored on another.

They are in the package's `assets/published_transfer.json`, each with its source. Numbers
of a model on the test set of its own dataset are those of `published`.
"""

import functools
import pathlib

from wsvad_jax.results.published import PUBLISHED
from wsvad_jax.utils.files import read_json
from wsvad_jax.utils.json_shapes import Number, PrintableText, Shape, check_shape

FILE = pathlib.Path(__file__).parent.parent / "assets" / "published_transfer.json"
NOT_FOUND = "source not found by us"


class TransferCell(Shape):
    """A published number, in %, with its source."""

    model: PrintableText
    train: PrintableText
    test: PrintableText
    metric: PrintableText
    value: Number
    paper: PrintableText | None
    arxiv: PrintableText | None
    table: PrintableText | None
    confirmed: bool

    @property
    def source(self) -> str:
        """The source in words, with what we could not confirm."""
        if self.arxiv is None:
            return NOT_FOUND
        place = f", table {self.table}" if self.table else ""
        doubt = "" if self.confirmed else "; table not opened by us"
        return f"{self.paper}, arXiv {self.arxiv}{place}{doubt}".removeprefix(", ")


class TransferCells(Shape):
    """The file of published numbers."""

    cells: list[TransferCell]


@functools.cache
def published_cells() -> tuple[TransferCell, ...]:
    """Returns the published numbers, those on a model's own test set included."""
    cells = check_shape(TransferCells, read_json(FILE), FILE).cells
    return (*_own_test_sets({c.model for c in cells}), *cells)


def _own_test_sets(models: set[str]) -> list[TransferCell]:
    """Returns `published`'s numbers of some models, as cells of train = test."""
    found = []
    for each in PUBLISHED:
        if each.model not in models or each.dataset not in ("ucf", "xd"):
            continue

        # The metric that the paper reports first.
        metric, value = next(iter(each.values.items()))
        cell = TransferCell(
            model=each.model,
            train=each.dataset,
            test=each.dataset,
            metric=metric,
            value=float(value),
            paper="",
            arxiv=each.source.rpartition("/")[2],
            table=None,
            confirmed=True,
        )
        found.append(cell)
    return found
