"""Views of a prepared dataset under other classes; its files stay as they are.

`with_card` gives the videos the class indices of another card. `without_class` leaves a
class out, with all videos that show it.
"""

import dataclasses
import hashlib

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

    # Indices above the class move down by one.
    new_index = {i: i - (i > left_out) for i in range(len(kept) + 1) if i != left_out}
    splits = {}
    for split_name, split in dataset.splits.items():
        rows = [i for i, e in enumerate(split.entries) if left_out not in classes_of(e)]
        splits[split_name] = _split(split, rows, new_index)

    content = hashlib.sha256(f"{dataset.content} without {name}".encode()).hexdigest()
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
