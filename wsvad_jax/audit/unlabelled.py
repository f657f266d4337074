"""Ranks unlabelled videos by how uncertain the folds' models are about them.

Each fold's model was trained on other videos, so where the models disagree, the training
videos don't decide, and a label would. A video's score becomes its rank among the videos
that the model judged before, and the rank a probability, as for the training videos. The
uncertainty is the entropy of the models' mean probability; a part of it is disagreement,
the mutual information of label and model (BALD, Houlsby et al., arXiv 1112.5745).
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from wsvad_jax.audit.disputes import DISPUTED, LogisticCurve, logit, rank_curve
from wsvad_jax.audit.entries import ABNORMAL, NORMAL, DisputeEntry
from wsvad_jax.audit.moments import highest_moments
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import count

if TYPE_CHECKING:
    from wsvad_jax.audit.result import LabelAudit
    from wsvad_jax.detection.detector import Detector
    from wsvad_jax.detection.inputs import VideoInput


@dataclasses.dataclass(frozen=True)
class FoldJudge:
    """Turns scores of the folds' models into probabilities of the label abnormal."""

    curve: LogisticCurve
    known: Sequence[Float[np.ndarray, "_"]]  # held-out scores of each fold

    @classmethod
    def of(
        cls,
        labels: Sequence[tuple[int, ...]],
        fold: Int[np.ndarray, "V"],
        scores: Float[np.ndarray, "V"],
    ) -> "FoldJudge":
        """Fits the curve on the training videos' held-out scores."""
        known = [scores[fold == f] for f in range(int(fold.max()) + 1)]
        return cls(rank_curve(labels, fold, scores), known)

    def probability(self, scores: Sequence[float]) -> Float[np.ndarray, "K"]:
        """Returns each model's probability that a new video is labelled abnormal.

        Args:
          scores: score of the video by each model.
        """
        ranks = [
            # The half keeps the rank of an extreme score inside of (0, 1).
            ((own < s).sum() + (own == s).sum() / 2 + 0.5) / (len(own) + 1)
            for own, s in zip(self.known, scores, strict=True)
        ]
        return self.curve(logit(np.array(ranks)))


def entropy(p: Float[np.ndarray, "*n"] | float) -> Float[np.ndarray, "*n"]:
    """Returns the entropy of two outcomes with probabilities p and 1 - p, in bits."""
    p = np.clip(np.asarray(p, np.float64), 1e-9, 1 - 1e-9)
    return np.asarray(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)))


@dataclasses.dataclass(frozen=True)
class UnlabelledRanking:
    """Ranked unlabelled videos, and the video files among them by name."""

    entries: Sequence[DisputeEntry] = ()
    paths: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)


def find_unlabelled(
    paths: Sequence[str], labelled: Sequence[str], skipped: Any
) -> tuple[list["VideoInput"], tuple[str, ...]]:
    """Returns the inputs that have no label yet, and a note about the others.

    Args:
      paths: videos, feature files and folders.
      labelled: names of the dataset's videos.
      skipped: collector of files in folders that are left out.

    Raises:
      InputError: no such file, or all videos are labelled.
    """
    from wsvad_jax.detection import inputs

    found = inputs.find_inputs(paths, skipped)
    known = set(labelled)
    new = [video for video in found if video.name not in known]
    if not new:
        raise InputError(
            f"--unlabelled: all {len(found)} videos there are in the dataset's lists, such "
            f"as {found[0].name}; pass videos without a label"
        )
    left_out = len(found) - len(new)
    verb = "is" if left_out == 1 else "are"
    note = (
        f"{count(left_out, 'video')} of --unlabelled {verb} in the dataset's lists, and "
        "left out"
    )
    return new, (note,) if left_out else ()


def rank_unlabelled(
    audited: "LabelAudit",
    videos: Sequence["VideoInput"],
    *,
    clip: str | None = None,
    fps: float | None = None,
    errors: list[InputError] | None = None,
) -> UnlabelledRanking:
    """Scores videos with every fold's model; the most uncertain ones come first.

    Args:
      audited: result of the cross-validation.
      videos: result of `find_unlabelled`.
      clip: CLIP model of the features; None is the one that the model names.
      fps: frames per second of features without times; None is 30, assumed.
      errors: receives errors about single videos, which are left out; None raises the
        first one.

    Raises:
      InputError: features made in another way than the dataset's, or no video is left.
    """
    from wsvad_jax.detection.timed_videos import read_each
    from wsvad_jax.extraction.frame_progress import FrameProgress

    detectors = _open_detectors(audited, clip)
    labels = [e.label for e in audited.experiment.dataset.split("train").entries]
    judge = FoldJudge.of(labels, audited.plan.fold, audited.scores)

    made: list[DisputeEntry] = []
    paths: dict[str, pathlib.Path] = {}
    files = [video.files[0] for video in videos if video.is_video]
    with FrameProgress("unlabelled", files, len(videos) - len(files)) as progress:
        # Features are read or made once, for all models.
        for source in read_each(
            detectors[0], videos, fps, errors, tick=progress.frames
        ):
            curves = [d.score(source.features).anomaly for d in detectors]
            p = judge.probability([float(curve.max()) for curve in curves])
            made.append(_entry(source.name, p, np.mean(curves, axis=0), source.edges))
            if source.path is not None:
                paths[source.name] = source.path
            progress.done()

    if not made:
        raise InputError("--unlabelled: no video could be read; see the messages above")
    made.sort(key=lambda e: (-e.values["uncertainty"], e.video))
    ranked = [dataclasses.replace(entry, rank=i) for i, entry in enumerate(made, 1)]
    return UnlabelledRanking(ranked, paths)


def _open_detectors(audited: "LabelAudit", clip: str | None) -> "list[Detector]":
    """Opens the folds' models; they share one compiled scoring program."""
    from wsvad_jax.detection.detector import Detector

    detectors = [
        Detector(folder / "model", clip=clip) for folder in audited.validated.folders
    ]
    for detector in detectors[1:]:
        detector.scorer = detectors[0].scorer
    return detectors


def _entry(
    name: str,
    p: Float[np.ndarray, "K"],
    curve: Float[np.ndarray, "T"],
    edges: Float[np.ndarray, "T1"],
) -> DisputeEntry:
    mean = float(p.mean())
    uncertainty = float(entropy(mean))
    values = {
        "abnormal": round(mean, 4),
        "uncertainty": round(uncertainty, 4),
        "disagreement": round(uncertainty - float(entropy(p).mean()), 4),
        "lowest": round(float(p.min()), 4),
        "highest": round(float(p.max()), 4),
    }
    why = (
        f"The {len(p)} models give the label abnormal probabilities from {p.min():.2f} to "
        f"{p.max():.2f}"
    )
    says = ABNORMAL if mean > DISPUTED else NORMAL
    moments = highest_moments(curve, edges)
    return DisputeEntry(0, name, "", says, values, why, moments, curve, edges)
