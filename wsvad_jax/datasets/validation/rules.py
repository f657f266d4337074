"""Remarks on a custom folder: what a training will suffer from."""

import difflib
import itertools
import re

import numpy as np

from wsvad_jax.data.records import FRAMES_PER_SNIPPET
from wsvad_jax.datasets.validation.report import Findings, Item, counted, some

ALIKE = 0.85  # share of characters that two labels have in common, to be asked about
FEW = 5  # training videos of a class
UNBALANCED = 5  # times as many normal as abnormal videos, or the other way round
SHORT, LONG = 4, 16 * 256  # snippets of a video
LONGER = 3  # times as long is the median video of one kind


def give(found: Findings) -> None:
    """Adds all remarks."""
    spelling(found)
    classes(found)
    balance(found)
    lengths(found)


def spelling(found: Findings) -> None:
    """Labels that may be one label, written in two ways."""
    labels = {c for item in found.items for c in item.row.labels}
    labels |= set(found.card.class_names if found.card else ())
    for a, b in itertools.combinations(sorted(labels), 2):
        if alike(a, b):
            found.remark(
                "labels",
                f"{a!r} and {b!r} look alike; are they one class? write it once",
            )


def alike(a: str, b: str) -> bool:
    """Says whether two labels may be meant to be one.

    "B1" and "B2" are two, and so are "Normal" and "Abnormal".
    """
    if re.sub(r"\d+", "", a) == re.sub(r"\d+", "", b):
        return False
    a, b = (re.sub(r"[\W_]+", "", c).lower() for c in (a, b))
    short, long = sorted((a, b), key=len)
    if long != short and long.endswith(short):
        return False
    if long.startswith(short) and len(long) - len(short) <= 3 <= len(short):
        return True
    return difflib.SequenceMatcher(None, a, b).ratio() >= ALIKE


def classes(found: Findings) -> None:
    """Classes that can't be learnt or tested."""
    if found.card is None:
        return
    train, test = found.counts("train"), found.counts("test")
    for name in found.card.class_names:
        if not train[name]:
            if test[name]:
                text = "test videos, but no training video: it will not be found"
            else:
                text = "no videos at all; take it off the card or add videos"
            found.remark("classes", f"class {name} has {text}")
        elif not test[name] and found.of("test"):
            found.remark("classes", f"class {name} has no test video to measure it by")
        if 0 < train[name] < FEW:
            found.remark(
                "classes",
                f"class {name} has {counted(train[name], 'training video')}; a few "
                "dozen are wanted",
            )


def balance(found: Findings) -> None:
    """Too few of one kind beside the other."""
    for split in ("train", "test"):
        known = [item for item in found.of(split) if item.label]
        normal, abnormal = (sum(_normal(i) == n for i in known) for n in (True, False))
        if not known:
            continue
        if split == "test" and not (normal and abnormal):
            kind = "abnormal" if normal else "normal"
            found.remark(
                "balance",
                f"the test list has no {kind} videos: frame-level and video-level AUC "
                "need both kinds",
            )
        elif split == "train" and not (normal and abnormal):
            kind = "abnormal" if normal else "normal"
            found.problem(
                "balance", f"train.csv has no {kind} videos; expected both kinds"
            )
        elif max(normal, abnormal) > UNBALANCED * min(normal, abnormal):
            found.remark(
                "balance",
                f"{split}.csv has {normal} normal and {abnormal} abnormal videos; more "
                f"{'abnormal' if normal > abnormal else 'normal'} ones would help"
                + (", since batches hold as many of both" if split == "train" else ""),
            )


def lengths(found: Findings) -> None:
    """Videos too short or too long, and lengths that give the label away."""
    known = [item for item in found.items if item.frames]
    stride = found.card.stride if found.card else FRAMES_PER_SNIPPET
    short = [i.row.video for i in known if i.frames < SHORT * stride]
    if short:
        found.remark(
            "length",
            f"{counted(len(short), 'video')} of less than {SHORT} snippets of {stride} "
            f"frames, in which there is little to tell apart: {some(short)}",
        )
    long = [i.row.video for i in known if i.frames > LONG * stride]
    if long:
        found.remark(
            "length",
            f"{counted(len(long), 'video')} of more than {LONG} snippets of {stride} "
            "frames; training averages a video to 256 parts at most, where short events "
            f"drown, so cut each into several: {some(long)}",
        )
    train = [i for i in known if i.split == "train" and i.label]
    sides = [[i.frames for i in train if _normal(i) == n] for n in (True, False)]
    if all(sides):
        a, b = (float(np.median(side)) for side in sides)
        if max(a, b) > LONGER * min(a, b):
            found.remark(
                "length",
                f"normal training videos have {a:.0f} frames in the middle, abnormal "
                f"ones {b:.0f}: a model may learn the length instead of the event",
            )


def _normal(item: Item) -> bool:
    return item.label == (0,)
