"""A stratified split by video: the same share of each class for the test list.

Videos that are alike stay on one side. The order is that of a hash of seed and name, so
it is the same on every machine, and for every order of the files.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from wsvad_jax.datasets.split_lists import SPLITS, ListEntry
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import count

Labels = tuple[str, ...]  # of a video, sorted
MIN_TEST = 5  # test videos of a class, below which one video changes much


def split(
    entries: Sequence[ListEntry],
    groups: Iterable[Collection[str]],
    *,
    seed: int,
    share: float,
    is_normal: Callable[[Labels], bool],
    first: Collection[str] = (),
) -> dict[str, list[ListEntry]]:
    """Returns the entries of the training list and the test list, in their order.

    A class with a single video stays in training.

    Args:
      entries: labelled videos, each once.
      groups: names of videos that stay on one side; others are on their own.
      seed: seed of the order.
      share: wished share of the test videos of each class.
      is_normal: whether labels are those of a normal video.
      first: names that the test list takes before others, since their truth is known.

    Raises:
      InputError: normal or abnormal videos can't be on both sides.
    """
    _check_enough(entries, is_normal)
    units = _units(entries, groups, seed, first)
    total = Counter(map(_labels, entries))
    wished = {c: min(max(round(share * n), 1), n - 1) for c, n in total.items()}

    # A unit is taken if it fits the wish of each of its classes.
    taken: Counter[Labels] = Counter()
    tested: set[int] = set()
    sizes = [Counter(map(_labels, unit)) for unit in units]
    for i, size in enumerate(sizes):
        if all(taken[c] + n <= wished[c] for c, n in size.items()):
            tested.add(i)
            taken += size

    # A class of large units may be left without any: then its smallest one is taken.
    for labels in total:
        for i in sorted(range(len(units)), key=lambda i: len(units[i])):
            fits = all(taken[c] + n < total[c] for c, n in sizes[i].items())
            if not taken[labels] and i not in tested and sizes[i][labels] and fits:
                tested.add(i)
                taken += sizes[i]

    names = {entry.video for i in tested for entry in units[i]}
    sides = [[e for e in entries if (e.video in names) == t] for t in (False, True)]
    for kind in (True, False):
        if not any(is_normal(_labels(e)) == kind for e in sides[1]):
            raise InputError(
                f"the {'normal' if kind else 'abnormal'} videos are alike, or too few of "
                "each class, so they can't be on both sides; add other videos, or write "
                "train.csv and test.csv"
            )
    return dict(zip(SPLITS, sides, strict=True))


def _labels(entry: ListEntry) -> Labels:
    return tuple(sorted(entry.labels))


def _check_enough(
    entries: Sequence[ListEntry], is_normal: Callable[[Labels], bool]
) -> None:
    normal = sum(is_normal(_labels(entry)) for entry in entries)
    for kind, n in (("normal", normal), ("abnormal", len(entries) - normal)):
        if n < 2:
            raise InputError(
                f"there {'is' if n == 1 else 'are'} {count(n, f'{kind} video')}, too few "
                f"to split {count(len(entries), 'video')} into training and test; a few "
                "dozen of each kind are advisable, two are needed"
            )


def _units(
    entries: Sequence[ListEntry],
    groups: Iterable[Collection[str]],
    seed: int,
    first: Collection[str],
) -> list[list[ListEntry]]:
    """Returns the entries that stay together, in the order of the draw."""
    of_group = {name: i for i, group in enumerate(groups) for name in group}
    units: dict[object, list[ListEntry]] = {}
    for entry in entries:
        units.setdefault(of_group.get(entry.video, entry.video), []).append(entry)

    def order(unit: Sequence[ListEntry]) -> tuple[bool, bytes]:
        name = min(entry.video for entry in unit)
        digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        return not any(entry.video in first for entry in unit), digest

    return sorted(units.values(), key=order)


def remarks(lists: Mapping[str, Sequence[ListEntry]]) -> list[str]:
    """Returns a remark about classes with few test videos, with the numbers."""
    test = Counter("+".join(_labels(entry)) for entry in lists["test"])
    return [
        f"the test list has {count(n, 'video')} of {label}, so one video is "
        f"{100 / n:.0f} % of what is measured of that class"
        for label, n in sorted(test.items())
        if n < MIN_TEST
    ]
