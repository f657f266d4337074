"""Rules behind the remarks on a custom folder: what may harm training or testing."""

import difflib
import itertools
import re
from collections.abc import Sequence

import numpy as np

from wsvad_jax.data.records import FRAMES_PER_SNIPPET
from wsvad_jax.datasets.validation.report import ListedVideo, ValidationReport
from wsvad_jax.utils.text import count, first_names

SIMILARITY = 0.85  # from this ratio of equal characters, two labels look alike
MIN_TRAIN_VIDEOS = 5  # of a class
MAX_IMBALANCE = 5  # ratio of normal to abnormal videos, or the reverse
MIN_SNIPPETS, MAX_SNIPPETS = 4, 16 * 256  # per video
MAX_LENGTH_RATIO = 3  # of the median lengths of normal and abnormal videos


def add_remarks(report: ValidationReport) -> None:
    """Applies all rules to the videos of a report."""
    similar_labels(report)
    class_coverage(report)
    class_balance(report)
    video_lengths(report)


def similar_labels(report: ValidationReport) -> None:
    """Remarks on labels that may be two spellings of one label."""
    labels = {c for video in report.videos for c in video.row.labels}
    labels |= set(report.card.class_names if report.card else ())

    # Classes on the card count as well: a label may be a misspelt class.
    for a, b in itertools.combinations(sorted(labels), 2):
        if look_alike(a, b):
            report.add_remark(
                "labels",
                f"{a!r} and {b!r} look alike; if they are one class, write it one way",
            )


def look_alike(a: str, b: str) -> bool:
    """Whether two labels may be two spellings of one.

    "B1" and "B2" are different labels, and so are "Normal" and "Abnormal".
    """
    if re.sub(r"\d+", "", a) == re.sub(r"\d+", "", b):
        return False

    # A prefix such as "Ab" changes the meaning, a suffix such as "s" doesn't.
    a, b = (re.sub(r"[\W_]+", "", c).lower() for c in (a, b))
    short, long = sorted((a, b), key=len)
    if long != short and long.endswith(short):
        return False
    if long.startswith(short) and len(long) - len(short) <= 3 <= len(short):
        return True

    return difflib.SequenceMatcher(None, a, b).ratio() >= SIMILARITY


def class_coverage(report: ValidationReport) -> None:
    """Remarks on classes with too few videos to train or test."""
    if report.card is None:
        return
    train, test = report.label_counts("train"), report.label_counts("test")

    for name in report.card.class_names:
        if not train[name] and test[name]:
            problem = "test videos but no training video, so it will not be detected"
        elif not train[name]:
            problem = "no videos; remove it from the card or add videos"
        elif not test[name] and report.of_split("test"):
            problem = "no test video, so it cannot be measured"
        else:
            problem = ""
        if problem:
            report.add_remark("classes", f"class {name} has {problem}")

        if 0 < train[name] < MIN_TRAIN_VIDEOS:
            videos = count(train[name], "training video")
            report.add_remark(
                "classes", f"class {name} has {videos}; a few dozen are advisable"
            )


def class_balance(report: ValidationReport) -> None:
    """Reports lists with too few normal or too few abnormal videos."""
    for split in ("train", "test"):
        # Videos with an unknown label are no evidence for either kind.
        known = [video for video in report.of_split(split) if video.label]
        normal = sum(map(_is_normal, known))
        abnormal = len(known) - normal
        if not known:
            continue

        # Training needs both kinds. A test set of one kind still has some metrics.
        missing = "abnormal" if normal else "normal"
        if split == "train" and not (normal and abnormal):
            report.add_problem(
                "balance", f"train.csv has no {missing} videos; expected both kinds"
            )
        elif not (normal and abnormal):
            report.add_remark(
                "balance",
                f"the test list has no {missing} videos: frame-level and video-level "
                "AUC need both kinds",
            )
        elif max(normal, abnormal) > MAX_IMBALANCE * min(normal, abnormal):
            rare = "abnormal" if normal > abnormal else "normal"
            reason = ", since batches are half normal" if split == "train" else ""
            report.add_remark(
                "balance",
                f"{split}.csv has {normal} normal and {abnormal} abnormal videos; more "
                f"{rare} ones would help{reason}",
            )


def video_lengths(report: ValidationReport) -> None:
    """Remarks on very short and very long videos, and on lengths that reveal labels."""
    known = [video for video in report.videos if video.frames]
    stride = report.card.stride if report.card else FRAMES_PER_SNIPPET

    short = [v.row.video for v in known if v.frames < MIN_SNIPPETS * stride]
    if short:
        report.add_remark(
            "length",
            f"{count(len(short), 'video')} shorter than {MIN_SNIPPETS} snippets of "
            f"{stride} frames, which is too short to localise events: "
            f"{first_names(short)}",
        )

    long = [v.row.video for v in known if v.frames > MAX_SNIPPETS * stride]
    if long:
        report.add_remark(
            "length",
            f"{count(len(long), 'video')} longer than {MAX_SNIPPETS} snippets of "
            f"{stride} frames; training averages a video to at most 256 segments, in "
            "which short events disappear, so cut each into several videos: "
            f"{first_names(long)}",
        )

    # Test videos don't influence what a model learns.
    _length_by_label([v for v in known if v.split == "train" and v.label], report)


def _length_by_label(videos: Sequence[ListedVideo], report: ValidationReport) -> None:
    lengths = [
        [video.frames for video in videos if _is_normal(video) == normal]
        for normal in (True, False)
    ]
    if not all(lengths):
        return

    normal, abnormal = (float(np.median(side)) for side in lengths)
    if max(normal, abnormal) > MAX_LENGTH_RATIO * min(normal, abnormal):
        report.add_remark(
            "length",
            f"the median normal training video has {normal:.0f} frames, the median "
            f"abnormal one {abnormal:.0f}: a model may learn the length instead of the "
            "event",
        )


def _is_normal(video: ListedVideo) -> bool:
    return video.label == (0,)
