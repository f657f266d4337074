"""Words of the figures: captions that say what is drawn, counts, and notes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.evaluation.figures.embedding import METHODS
from wsvad_jax.evaluation.figures.sample import VIDEOS, SnippetSample
from wsvad_jax.results.runs import Run
from wsvad_jax.utils.text import count

if TYPE_CHECKING:
    from wsvad_jax.evaluation.figures.encode import StageFeatures
    from wsvad_jax.experiment.build import Experiment
    from wsvad_jax.metrics.class_curves import ClassCurve

CURVES = {
    "anomaly_roc": (
        "ROC curves of the anomaly score for each class: frames of the class's events "
        "against all normal frames of the test set."
    ),
    "anomaly_auc": (
        "Frame AUC of the anomaly score for each class against all normal frames of the "
        "test set, with the number of test videos that have such an event. Grey: chance. "
        "Dashed: the frame AUC over all classes."
    ),
    "class_roc": (
        "ROC curves of each class's probability: frames of the class's events against "
        "all other frames, events of other classes among them."
    ),
    "class_pr": (
        "Precision-recall curves of each class's probability: frames of the class's "
        "events against all other frames. AP is the step-wise area."
    ),
}


def of_snippets(
    experiment: "Experiment",
    place: "StageFeatures",
    sample: SnippetSample,
    method: str,
) -> str:
    """Returns the caption of a figure of snippets."""
    card, model = experiment.dataset.card, experiment.spec.title
    what = f"Snippets of the test set of {card.name}"
    what += f", {model}, {place.title}" if place.title != "features" else ""
    encoder = experiment.dataset.protocol.encoder.partition("@")[0] or "unknown"
    if place.title == "features":
        what += f": the features that models read (encoder: {encoder})"

    shown, total = int(sample.shown.sum()), int(sample.available.sum())
    sentences = [
        f"{what}, placed by {METHODS[method]}.",
        f"{shown} of {total} snippets, chosen at random with an even share per class.",
    ]
    if sample.truth == VIDEOS:
        sentences.append("Colours are the labels of whole videos.")
    if place.texts is not None:
        sentences.append(
            "Large outlined marks are the class texts. Snippets and texts are each "
            "centred on their mean."
        )
    return " ".join(sentences)


def of_curves(name: str, run: Run) -> str:
    """Returns the caption of a figure of curves."""
    return f"{CURVES[name]} {run.model} on {run.dataset}, seed {run.seed}."


def sample_counts(sample: SnippetSample, class_names: Sequence[str]) -> dict[str, Any]:
    """Returns how many snippets are shown, of how many, for figures.json."""
    rows = zip(class_names, sample.shown, sample.available, strict=True)
    return {
        "shown": int(sample.shown.sum()),
        "available": int(sample.available.sum()),
        "classes": {
            name: {"shown": int(shown), "available": int(available)}
            for name, shown, available in rows
        },
        "truth": sample.truth,
        "left_out": sample.left_out,
    }


def sample_notes(sample: SnippetSample) -> list[str]:
    """Returns what the choice of snippets leaves out."""
    notes = []
    if sample.truth == VIDEOS and np.any(sample.available[1:]):
        notes.append(
            "the test set has no true events: snippets have the colour of their video's "
            "label"
        )
    if sample.left_out:
        notes.append(
            f"{count(sample.left_out, 'snippet')} of abnormal videos without true events "
            "left out"
        )
    return notes


def curve_notes(
    found: "Sequence[ClassCurve]",
    named: "Sequence[ClassCurve]",
    experiment: "Experiment",
) -> list[str]:
    """Returns why curves are missing."""
    if not found:
        return ["no curves of classes: no class has both true events and normal frames"]
    notes = []
    classes = experiment.dataset.card.class_names[1:]
    if missing := [name for name in classes if name not in {c.name for c in found}]:
        notes.append(f"no curve of {', '.join(missing)}: no true event in the test set")
    if not named:
        notes.append(
            f"no class_roc and class_pr: {experiment.spec.title} has no class "
            "probabilities"
        )
    return notes
