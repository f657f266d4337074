"""Report of a custom folder's validation: problems, remarks, counts, and the next step."""

import dataclasses
import os
import pathlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from wsvad_jax.data.cards import Card
from wsvad_jax.data.feature_files import ErrorCollector
from wsvad_jax.datasets.custom import EXAMPLE_CLIP
from wsvad_jax.datasets.split_lists import SPLITS, ListEntry
from wsvad_jax.utils import flags
from wsvad_jax.utils.errors import printable
from wsvad_jax.utils.text import aligned, clock, count

MAX_SHOWN = 6  # messages of a kind


@dataclasses.dataclass
class ListedVideo:
    """A video of a list, with what is known about its length."""

    split: str
    row: ListEntry
    label: tuple[int, ...]  # () if the list has a label that is no class
    frames: int = 0  # 0 unknown; before extraction, what the container states
    seconds: float = 0.0  # 0 unknown
    crops: int = 1


@dataclasses.dataclass
class ValidationReport:
    """Result of `validate`: problems stop `prepare`, remarks don't.

    Both are grouped by kind, such as "labels" or "features".
    """

    folder: pathlib.Path
    root: pathlib.Path  # folder of the features
    card: Card | None = None
    videos: list[ListedVideo] = dataclasses.field(default_factory=list)
    num_to_extract: int = 0  # videos whose features `prepare` would extract
    width: int = 0  # number of values per snippet; 0 unknown
    classes_on_card: bool = False
    options: tuple[str, ...] = ()  # flags for the `prepare` command that is printed
    problems: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    remarks: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether `prepare` would accept the folder."""
        return not self.problems

    def add_problem(self, kind: str, message: object) -> None:
        """Adds a message about something that must be corrected."""
        # Several checks may read one file, such as protocol.json for each video.
        text = self._shorten(message)
        if not any(text in known for known in self.problems.values()):
            self.problems.setdefault(kind, []).append(text)

    def add_remark(self, kind: str, message: object) -> None:
        """Adds a message about something that is allowed but may harm the results."""
        self.remarks.setdefault(kind, []).append(self._shorten(message))

    def add_errors(self, kind: str, collector: ErrorCollector) -> None:
        """Moves the collected errors to the problems."""
        for error in collector.errors:
            self.add_problem(kind, error)
        collector.errors.clear()

    def of_split(self, split: str) -> list[ListedVideo]:
        """Returns the videos of a split."""
        return [video for video in self.videos if video.split == split]

    def label_counts(self, split: str) -> Counter[str]:
        """Counts a split's videos by label; a video with two labels counts for both."""
        return Counter(c for video in self.of_split(split) for c in video.row.labels)

    def text(self) -> str:
        """Returns the report as `prepare --check` prints it."""
        parts = [self._title(), *self._class_table(), *self._length_table()]
        parts += _section("problem", self.problems)
        parts += _section("remark", self.remarks)
        parts.append(self._conclusion())
        return "\n".join(parts)

    def _shorten(self, message: object) -> str:
        """Makes paths in a message relative to the folder."""
        return printable(str(message).replace(f"{self.folder}{os.sep}", ""))

    def _title(self) -> str:
        videos = f"{count(len(self.videos), 'video')} in the lists"
        if self.card is None:
            return f"{self.folder}: {videos}"
        source = "card.json" if self.classes_on_card else "the labels"
        classes = f"{len(self.card.classes)} classes from {source}"
        return f"{self.folder}: {videos}, {classes}"

    def _class_table(self) -> list[str]:
        if not self.videos:
            return []
        counts = {split: self.label_counts(split) for split in SPLITS}

        # Labels that are no class are listed as well, after the classes.
        names = list(self.card.class_names) if self.card else []
        names += sorted({*counts["train"], *counts["test"]} - set(names))
        prompts = {c.name: c.prompts for c in self.card.classes} if self.card else {}

        rows = [["class", *SPLITS, "prompts for the text tower"]]
        for name in names:
            words = " / ".join(prompts.get(name, ("(not a class)",)))
            rows.append([name, *(str(counts[s][name]) for s in SPLITS), words])
        rows.append(["videos", *(str(len(self.of_split(s))) for s in SPLITS), ""])
        return _indented(aligned(rows, left=(0, 3)))

    def _length_table(self) -> list[str]:
        rows = [["length", "shortest", "median", "longest", "total"]]
        for split in SPLITS:
            known = [video for video in self.of_split(split) if video.frames]
            if known:
                rows.append([split, *_lengths(known)])
        return _indented(aligned(rows)) if len(rows) > 1 else []

    def _conclusion(self) -> str:
        if not self.usable:
            return "\nNot usable yet: correct the problems, then check again."

        # The command names a model only if the folder names none.
        words = [str(self.folder), *self.options]
        if self.num_to_extract and not (self.card and self.card.clip):
            words += ["--clip", EXAMPLE_CLIP]
        command = flags.command("prepare", *words)

        note = ""
        if self.num_to_extract:
            note = f", which extracts {count(self.num_to_extract, 'video')}"
        if "--clip" in words:
            note += " (--clip NAME_OR_FOLDER takes another CLIP model)"
        return f"\nUsable. Next{note}:\n  {command}"


def _section(noun: str, messages_by_kind: dict[str, list[str]]) -> list[str]:
    """Returns the lines of all problems, or of all remarks."""
    if not (total := sum(map(len, messages_by_kind.values()))):
        return []
    lines = ["", f"{count(total, noun)}:"]
    for kind, messages in messages_by_kind.items():
        lines += [f"  [{kind}] {message}" for message in messages[:MAX_SHOWN]]
        if (hidden := len(messages) - MAX_SHOWN) > 0:
            lines.append(f"  [{kind}] ... and {hidden} more like these")
    return lines


def _indented(lines: Sequence[str]) -> list[str]:
    """Sets a table apart from the lines around it."""
    return ["", *(f"  {line}" for line in lines)]


def _lengths(videos: Sequence[ListedVideo]) -> list[str]:
    """Shortest, median, longest and total length; as times if all are known."""
    timed = all(video.seconds for video in videos)
    values = np.array([v.seconds if timed else v.frames for v in videos])
    summary = [values.min(), np.median(values), values.max(), values.sum()]
    if not timed:
        return [f"{value:.0f} frames" for value in summary]
    return [clock(float(v), tenths=bool(v < 60)) for v in summary]
