"""What a look through a custom folder finds, and how it is told."""

import dataclasses
import os
import pathlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from wsvad_jax.data.cards import Card
from wsvad_jax.data.feature_files import ErrorCollector
from wsvad_jax.datasets.custom import MODEL
from wsvad_jax.datasets.split_lists import SPLITS, Row
from wsvad_jax.utils import flags
from wsvad_jax.utils.errors import printable

SHOWN = 6  # problems or remarks of a kind, names in one of them


@dataclasses.dataclass
class Item:
    """A listed video."""

    split: str
    row: Row
    label: tuple[int, ...]  # () where it has a label that no class has
    frames: int = 0  # 0 unknown; as announced where the video is yet to be extracted
    seconds: float = 0.0  # 0 unknown
    crops: int = 1


@dataclasses.dataclass
class Findings:
    """What there is to say about a folder."""

    folder: pathlib.Path
    root: pathlib.Path  # of the features
    card: Card | None = None
    items: list[Item] = dataclasses.field(default_factory=list)
    extract: int = 0  # videos whose features are to be extracted
    width: int = 0  # of the features; 0 unknown
    classes_on_card: bool = False
    options: tuple[str, ...] = ()  # flags that `prepare` takes as well
    problems: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    remarks: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    @property
    def usable(self) -> bool:
        return not self.problems

    def problem(self, kind: str, text: object) -> None:
        self.problems.setdefault(kind, []).append(self._short(text))

    def remark(self, kind: str, text: object) -> None:
        self.remarks.setdefault(kind, []).append(self._short(text))

    def take(self, kind: str, problems: ErrorCollector) -> None:
        for error in problems.errors:
            self.problem(kind, error)
        problems.errors.clear()

    def _short(self, text: object) -> str:
        """Names files below the folder from there on."""
        return printable(str(text).replace(f"{self.folder}{os.sep}", ""))

    def of(self, split: str) -> list[Item]:
        return [item for item in self.items if item.split == split]

    def counts(self, split: str) -> Counter[str]:
        """Counts a split's videos by label; one with several counts for each."""
        return Counter(c for item in self.of(split) for c in item.row.labels)

    def text(self) -> str:
        """Returns the report."""
        parts = [self._title(), *self._tables()]
        parts += self._told("problem", self.problems)
        parts += self._told("remark", self.remarks)
        parts.append(self._verdict())
        return "\n".join(parts)

    def _title(self) -> str:
        where = "card.json" if self.classes_on_card else "the labels"
        videos = f"{counted(len(self.items), 'video')} in the lists"
        if self.card is None:
            return f"{self.folder}: {videos}"
        return f"{self.folder}: {videos}, {len(self.card.classes)} classes from {where}"

    def _tables(self) -> list[str]:
        if not self.items:
            return []
        counts = {split: self.counts(split) for split in SPLITS}
        names = list(self.card.class_names) if self.card else []
        names += sorted({*counts["train"], *counts["test"]} - set(names))
        prompts = {c.name: c.prompts for c in self.card.classes} if self.card else {}
        rows = [["class", *SPLITS, "described to the text tower as"]]
        for name in names:
            words = " / ".join(prompts.get(name, ("(no such class)",)))
            rows.append([name, *(str(counts[s][name]) for s in SPLITS), words])
        rows.append(["videos", *(str(len(self.of(split))) for split in SPLITS), ""])
        parts = ["", *table(rows, right=(1, 2))]
        rows = [["length", "shortest", "median", "longest", "together"]]
        for split in SPLITS:
            known = [i for i in self.of(split) if i.frames]
            if known:
                rows.append([split, *_lengths(known)])
        return parts + (["", *table(rows, right=(1, 2, 3, 4))] if len(rows) > 1 else [])

    def _told(self, word: str, kinds: dict[str, list[str]]) -> list[str]:
        if not (count := sum(map(len, kinds.values()))):
            return []
        parts = ["", f"{counted(count, word)}:"]
        for kind, texts in kinds.items():
            parts += [f"  [{kind}] {text}" for text in texts[:SHOWN]]
            if len(texts) > SHOWN:
                parts.append(f"  [{kind}] ... and {len(texts) - SHOWN} more like these")
        return parts

    def _verdict(self) -> str:
        if not self.usable:
            return "\nNot usable yet: correct the problems, then check again."
        words = [str(self.folder), *self.options]
        if self.extract and not (self.card and self.card.clip):
            words += ["--clip", MODEL]
        command = flags.command("prepare", *words)
        note = f", which extracts {counted(self.extract, 'video')}" * bool(self.extract)
        if "--clip" in words:
            note += " (--clip NAME_OR_FOLDER takes another CLIP model)"
        return f"\nUsable. Next{note}:\n  {command}"


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lays out rows in columns; those numbered in `right` stand to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(("  " + "   ".join(cells)).rstrip())
    return lines


def _lengths(items: Sequence[Item]) -> list[str]:
    """Shortest, median, longest and sum; as times where all are known."""
    timed = all(item.seconds for item in items)
    values = np.array([item.seconds if timed else item.frames for item in items])
    parts = [values.min(), np.median(values), values.max(), values.sum()]
    return [clock(v) if timed else f"{v:.0f} frames" for v in parts]


def clock(seconds: float) -> str:
    """Writes a length of time: 12.3 s, 4:05 or 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counted(n: int, word: str) -> str:
    """Writes a number of things: 1 video, 2 videos."""
    return f"{n} {word}" + "s" * (n != 1)


def some(names: Sequence[str]) -> str:
    """Lists names, the first few of many."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
