"""Words the disputes for readers: label, what the model says, and the moments."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from wsvad_jax.audit.moments import ScoredMoment, highest_moments
from wsvad_jax.datasets import registry
from wsvad_jax.evaluation.event_rules import DEFAULT_FPS
from wsvad_jax.utils.text import count

if TYPE_CHECKING:
    from wsvad_jax.audit.disputes import ClassDispute, KindDispute
    from wsvad_jax.audit.result import LabelAudit
    from wsvad_jax.data.cards import Card
    from wsvad_jax.data.dataset import Entry

NORMAL, ABNORMAL = "normal", "abnormal"


@dataclasses.dataclass(frozen=True)
class DisputeEntry:
    """One video of a ranking, as tables and page show it."""

    rank: int
    video: str
    label: str  # "" for an unlabelled video
    says: str  # normal, abnormal or a class
    values: dict[str, Any]  # further columns
    why: str  # a sentence
    moments: Sequence[ScoredMoment]  # highest first
    curve: Float[np.ndarray, "T"]
    edges: Float[np.ndarray, "T1"]  # seconds

    def row(self) -> dict[str, Any]:
        """Returns the values of a table's row, by column."""
        spans = "; ".join(f"{m.start:.1f}-{m.end:.1f}" for m in self.moments)
        label = {"label": self.label} if self.label else {}
        return {
            "rank": self.rank,
            "video": self.video,
            **label,
            "model": self.says,
            **self.values,
            "moments_s": spans,
        }

    def as_dict(self) -> dict[str, Any]:
        """Returns the entry for JSON."""
        row = self.row()
        row.pop("moments_s")
        moments = [
            {
                "start": round(m.start, 3),
                "end": round(m.end, 3),
                "score": round(m.score, 4),
            }
            for m in self.moments
        ]
        return {**row, "why": self.why, "moments": moments}


def known_rate(
    entry: "Entry", card: "Card", rates: Mapping[str, float]
) -> float | None:
    """Returns a video's frames per second, None if nothing states them.

    Args:
      entry: video of the dataset.
      card: card of the dataset.
      rates: what the video files state, by name.
    """
    return registry.frame_rate(entry, card) or rates.get(entry.video)


def snippet_times(
    entry: "Entry", card: "Card", rates: Mapping[str, float]
) -> Float[np.ndarray, "T1"]:
    """Returns the bounds of a video's snippets, in seconds; see `known_rate`."""
    rate = known_rate(entry, card, rates) or DEFAULT_FPS
    edges = np.arange(entry.num_snippets + 1) * card.stride / rate
    # The last snippet may be shorter than the others.
    if entry.num_frames and entry.num_frames / rate > edges[-2]:
        edges[-1] = min(edges[-1], entry.num_frames / rate)
    return edges


def label_of(entry: "Entry", card: "Card") -> str:
    """Returns the classes of a video's label, as lists write them."""
    return "+".join(card.class_names[c] for c in entry.label)


def kind_entries(
    audited: "LabelAudit", rates: Mapping[str, float]
) -> list[DisputeEntry]:
    """Returns all training videos, those whose label is disputed most first."""
    dataset = audited.experiment.dataset
    entries, card = dataset.split("train").entries, dataset.card

    made = []
    for rank, dispute in enumerate(audited.kinds, 1):
        entry = entries[dispute.video]

        # The curve is that of the fold's model, which was not trained on the video.
        edges = snippet_times(entry, card, rates)
        curve = audited.validated.scores[dispute.video].anomaly
        made.append(
            DisputeEntry(
                rank,
                entry.video,
                label_of(entry, card),
                NORMAL if dispute.abnormal == dispute.is_disputed else ABNORMAL,
                _kind_values(dispute),
                _kind_reason(dispute, card.class_names[0]),
                highest_moments(curve, edges),
                curve,
                edges,
            )
        )
    return made


def _kind_values(dispute: "KindDispute") -> dict[str, Any]:
    return {
        "disputed": dispute.is_disputed,
        "dispute": round(dispute.dispute, 4),
        "beyond_other_label": dispute.beyond_other,
        "other_label": dispute.other,
        "beyond_same_label": dispute.beyond_same,
        "same_label": dispute.same,
        "score": round(dispute.score, 4),
        "fold": dispute.fold,
    }


def _kind_reason(dispute: "KindDispute", normal: str) -> str:
    """Words how a video ranks among those of either kind."""
    kinds = (f"labelled {normal}", "labelled abnormal")
    own, other = kinds if not dispute.abnormal else kinds[::-1]
    where = "below" if dispute.abnormal else "above"
    return (
        f"Its highest score ranks {where} {dispute.beyond_other} of "
        f"{count(dispute.other, 'video')} {other}, and {where} {dispute.beyond_same} of "
        f"the {dispute.same} others {own}"
    )


def class_entries(
    audited: "LabelAudit", rates: Mapping[str, float]
) -> list[DisputeEntry]:
    """Returns the abnormal videos to which the model gives another class."""
    dataset = audited.experiment.dataset
    entries, card = dataset.split("train").entries, dataset.card
    made = []
    for rank, dispute in enumerate(audited.classes, 1):
        entry = entries[dispute.video]
        edges = snippet_times(entry, card, rates)
        classes = audited.validated.scores[dispute.video].classes
        assert classes is not None  # only such videos have class disputes
        curve = classes[:, dispute.suggested]
        suggested = card.class_names[dispute.suggested]
        made.append(
            DisputeEntry(
                rank,
                entry.video,
                label_of(entry, card),
                suggested,
                _class_values(dispute),
                _class_reason(dispute, suggested, label_of(entry, card)),
                highest_moments(curve, edges),
                curve,
                edges,
            )
        )
    return made


def _class_values(dispute: "ClassDispute") -> dict[str, Any]:
    return {
        "margin": round(dispute.margin, 4),
        "probability": round(dispute.probability, 4),
        "label_probability": round(dispute.label_probability, 4),
        "agreeing": dispute.agreeing,
        "as_clear": dispute.as_clear,
    }


def _class_reason(dispute: "ClassDispute", suggested: str, label: str) -> str:
    """Words how sure the model is of a class, and how often it is right then."""
    sure = (
        f"Of the anomaly classes, the model gives {suggested} "
        f"{100 * dispute.probability:.0f} % and {label} "
        f"{100 * dispute.label_probability:.0f} %. "
    )
    if dispute.as_clear == 1:
        return sure + f"No other video gets {suggested} as clearly"
    return sure + (
        f"Of the {dispute.as_clear} videos that get {suggested} as clearly, this one "
        f"among them, {dispute.agreeing} {'is' if dispute.agreeing == 1 else 'are'} "
        "labelled so"
    )
