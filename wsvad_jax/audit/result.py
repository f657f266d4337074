"""What an audit is asked for, and what its cross-validation says."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from wsvad_jax.audit.disputes import ClassDispute, KindDispute
from wsvad_jax.audit.folds import DEFAULT_FOLDS

if TYPE_CHECKING:
    from wsvad_jax.audit.cross_validation import CrossValidated
    from wsvad_jax.audit.plan import FoldPlan
    from wsvad_jax.experiment.build import Experiment


@dataclasses.dataclass(frozen=True)
class AuditOptions:
    """What is audited, and where its files go."""

    run: pathlib.Path  # workdir whose recipe the folds are trained with
    output: pathlib.Path | None = None  # None: audit/ in the run's workdir
    data_dir: str | None = None
    folds: int = DEFAULT_FOLDS
    videos: str | None = None  # folder of the training videos; None: the dataset's
    unlabelled: Sequence[str] = ()  # videos, features or folders without labels
    clip: str | None = None  # CLIP model of unlabelled videos; None: the model's
    fps: float | None = None  # of unlabelled features without times


@dataclasses.dataclass(frozen=True)
class LabelAudit:
    """Result of the cross-validation: which labels are disputed, and how."""

    experiment: "Experiment"
    plan: "FoldPlan"
    validated: "CrossValidated"
    kinds: Sequence[KindDispute]  # all videos, the most disputed first
    classes: Sequence[ClassDispute]
    scores: Float[np.ndarray, "V"]  # of each training video
    video_auc: float  # of all held-out scores, as ranks within folds

    @property
    def num_disputed(self) -> int:
        return sum(dispute.is_disputed for dispute in self.kinds)
