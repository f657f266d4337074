"""Writes an audit: CSV files of the rankings, audit.json, and a page to look at them."""

import csv
import io
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax.audit import disputes, entries, page
from wsvad_jax.audit.entries import DisputeEntry
from wsvad_jax.utils import files
from wsvad_jax.utils.text import aligned, count

if TYPE_CHECKING:
    from wsvad_jax.audit.result import AuditOptions, LabelAudit
    from wsvad_jax.audit.video_files import VideosAtHand

LABELS, CLASSES, UNLABELLED = "audit.csv", "class_disputes.csv", "unlabelled.csv"
DOCUMENT, PAGE = "audit.json", "audit.html"
PRINTED = 10  # rows on the terminal
LOW_AUC = 0.65  # video AUC below which a model's disputes say little


def write(
    output: pathlib.Path,
    audited: "LabelAudit",
    videos: "VideosAtHand",
    options: "AuditOptions",
    unlabelled: Sequence[DisputeEntry] = (),
) -> dict[str, Any]:
    """Writes the files of an audit, prints its head, and returns audit.json.

    Args:
      output: folder of the audit.
      audited: result of the cross-validation.
      videos: video files, for pictures.
      options: what was audited.
      unlabelled: ranked unlabelled videos.
    """
    kinds = entries.kind_entries(audited, videos.rates)
    classes = entries.class_entries(audited, videos.rates)
    document = {
        **describe(audited, videos, options),
        "labels": [entry.as_dict() for entry in kinds],
        "classes": [entry.as_dict() for entry in classes],
        "unlabelled": [entry.as_dict() for entry in unlabelled],
    }

    write_table(output / LABELS, kinds)
    for name, ranked in ((CLASSES, classes), (UNLABELLED, unlabelled)):
        if ranked:
            write_table(output / name, ranked)
        else:  # of an earlier audit in this folder
            (output / name).unlink(missing_ok=True)
    files.write_json(output / DOCUMENT, document)
    rankings = {"labels": kinds, "classes": classes, "unlabelled": unlabelled}
    page.write_page(output / PAGE, document, rankings, videos.paths)

    _print(document, output)
    return document


def describe(
    audited: "LabelAudit", videos: "VideosAtHand", options: "AuditOptions"
) -> dict[str, Any]:
    """Returns what an audit rests on: data, recipe, folds, and how well they rank."""
    experiment = audited.experiment
    names = [e.video for e in experiment.dataset.split("train").entries]
    return {
        "dataset": experiment.dataset.card.name,
        "content": experiment.dataset.content,
        "run": str(options.run),
        "model": experiment.config.model_name,
        "seed": experiment.config.seed,
        "folds": len(audited.validated.folders),
        "videos": len(audited.kinds),
        "disputed": audited.num_disputed,
        "video_auc": round(audited.video_auc, 4),
        "copies": [[names[i] for i in group] for group in audited.plan.groups],
        "notes": [*audited.plan.notes, *videos.notes, *_notes(audited, videos)],
    }


def _notes(audited: "LabelAudit", videos: "VideosAtHand") -> list[str]:
    """Returns what readers must know before they trust the rankings."""
    dataset = audited.experiment.dataset
    split, notes = dataset.split("train"), []
    if audited.video_auc < LOW_AUC:
        notes.append(
            f"on videos that they were not trained on, the models tell normal from "
            f"abnormal with a video AUC of {audited.video_auc:.2f} (chance is 0.5): "
            "their disputes say little"
        )

    unknown = [
        e.video
        for e in split.entries
        if not entries.known_rate(e, dataset.card, videos.rates)
    ]
    if unknown:
        notes.append(
            f"times assume {entries.DEFAULT_FPS:g} frames per second for "
            f"{count(len(unknown), 'video')}, such as {unknown[0]}: neither features, card "
            "nor a video file say it"
        )

    # A class with one video is never in the training that judges it.
    labels = [e.label for e in split.entries]
    for c, found in disputes.unseen_classes(labels, audited.plan.fold).items():
        name, which = dataset.card.class_names[c], split.entries[found[0]].video
        others = f" and {len(found) - 1} more" if len(found) > 1 else ""
        notes.append(
            f"the class {name} is in one fold only ({which}{others}), so the model that "
            "judges it never saw that class: its dispute may mean no more than that"
        )
    return notes


def write_table(path: pathlib.Path, ranked: Sequence[DisputeEntry]) -> None:
    """Writes a ranking as a CSV file."""
    text = io.StringIO()
    rows = [entry.row() for entry in ranked]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, text.getvalue())


def _print(document: dict[str, Any], output: pathlib.Path) -> None:
    for note in document["notes"]:
        print(f"note: {note}")
    print(
        f"{count(document['videos'], 'training video')}, each judged by a model that was "
        f"not trained on it (video AUC {document['video_auc']:.3f}); the models dispute "
        f"{count(document['disputed'], 'label')}"
    )
    rows = [["", "video", "label", "model", "dispute"]]
    rows += [
        [str(e["rank"]), e["video"], e["label"], e["model"], f"{e['dispute']:.2f}"]
        for e in document["labels"][:PRINTED]
    ]
    print("\n".join(aligned(rows, left=(1, 2, 3))))
    print(
        "a dispute is the model's opinion; look at the videos before you change a label"
    )
    print(output / LABELS)
    print(output / PAGE)
