"""Views of a prepared dataset under other classes; its files stay as they are.

`with_card` gives the videos the class indices of another card. `without_class` leaves a
class out, with all videos that show it. `only_classes` keeps some anomaly classes, and
the videos that show one of them alone.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence

from wsvad_jax.data.cards import Card
from wsvad_jax.data.dataset import Dataset, Entry, Split


def with_card(dataset: Dataset, card: Card) -> Dataset:
    """Returns the dataset under another card, whose classes have the same names.

    The card may have further classes, and the classes may be in another order.

    Args:
      dataset: prepared dataset.
      card: new card; the normal class keeps its name.

    Raises:
      InputError: a video shows a class that the card lacks.
    """
    new_index = {
        dataset.card.index(name): card.index(name) for name in classes_shown(dataset)
    }
    splits = {
        name: _split(split, range(len(split.entries)), new_index)
        for name, split in dataset.splits.items()
    }
    return dataclasses.replace(dataset, card=card, splits=splits)


def without_class(dataset: Dataset, name: str) -> Dataset:
    """Returns the dataset without a class and without the videos that show it.

    Its hash differs from the dataset's, since it holds other records.

    Args:
      dataset: prepared dataset.
      name: a class that isn't the normal one.

    Raises:
      InputError: no class has that name.
    """
    left_out = dataset.card.index(name)
    kept = tuple(c for c in dataset.card.classes if c.name != name)
    card = dataclasses.replace(dataset.card, classes=kept)
    return _view(dataset, card, lambda shown: left_out not in shown, f"without {name}")


def only_classes(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """Returns the normal videos, and those that show exactly one class of `names`.

    Its card has the normal class and those of `names`, in the order of the dataset's.
    Its hash differs from the dataset's, since it holds other records.

    Args:
      dataset: prepared dataset.
      names: anomaly classes.

    Raises:
      InputError: no class has one of the names.
    """
    kept_indices = {dataset.card.index(name) for name in names}
    kept = tuple(
        c for i, c in enumerate(dataset.card.classes) if i == 0 or i in kept_indices
    )
    card = dataclasses.replace(dataset.card, classes=kept)

    def is_kept(shown: set[int]) -> bool:
        return len(shown - {0}) < 2 and shown <= {0, *kept_indices}

    return _view(dataset, card, is_kept, f"only {'+'.join(card.class_names)}")


def _view(
    dataset: Dataset, card: Card, is_kept: Callable[[set[int]], bool], change: str
) -> Dataset:
    """Returns the videos whose classes are kept, under a card with fewer classes."""
    new_index = {dataset.card.index(name): i for i, name in enumerate(card.class_names)}
    splits = {}
    for split_name, split in dataset.splits.items():
        rows = [i for i, e in enumerate(split.entries) if is_kept(classes_of(e))]
        splits[split_name] = _split(split, rows, new_index)

    content = hashlib.sha256(f"{dataset.content} {change}".encode()).hexdigest()
    return dataclasses.replace(dataset, card=card, splits=splits, content=content)


def classes_of(entry: Entry) -> set[int]:
    """Returns the class indices of a video's labels and true events."""
    return {*entry.label, *(category for *_, category in entry.segments)}


def classes_shown(dataset: Dataset, split: str | None = None) -> list[str]:
    """Returns the classes that videos show, in the card's order, and the normal class.

    Args:
      dataset: prepared dataset.
      split: name of a split; None takes all of them.
    """
    splits = dataset.splits.values() if split is None else [dataset.split(split)]
    used = {0}.union(*(classes_of(e) for s in splits for e in s.entries))
    return [name for i, name in enumerate(dataset.card.class_names) if i in used]


def _split(split: Split, rows: "range | list[int]", new_index: dict[int, int]) -> Split:
    entries = tuple(
        dataclasses.replace(
            entry,
            label=tuple(new_index[c] for c in entry.label),
            segments=tuple((s, e, new_index[c]) for s, e, c in entry.segments),
        )
        for entry in (split.entries[i] for i in rows)
    )
    # A view of a view refers to the same files.
    positions = range(len(split.entries)) if split.rows is None else split.rows
    return Split(split.path, split.name, entries, tuple(positions[i] for i in rows))
