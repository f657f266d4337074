"""Ranks training videos by how much their cross-validated scores dispute their labels.

Scores of different folds come from different models. So a video's score, that of its
highest snippet, is first replaced by its rank among the videos of its fold. A logistic
regression of the labels on these ranks gives the probability that a video of such a rank
is labelled abnormal. The dispute is the probability of the label that it hasn't got.
Wrong labels flatten the regression, and hardly change the order of the videos.

Letters: V videos, C classes.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from wsvad_jax.audit.folds import Label, is_abnormal
from wsvad_jax.models.scores import SnippetScores

RIDGE = 1.0  # L2 penalty of the slope, which keeps it finite if labels are separable
DISPUTED = 0.5  # dispute above which the model is on the other label's side


@dataclasses.dataclass(frozen=True)
class KindDispute:
    """What the model says on whether a video is normal or abnormal."""

    video: int  # index among the training videos
    abnormal: bool  # as its label says
    fold: int
    score: float  # of its highest snippet
    dispute: float  # probability of the other label
    # Videos whose rank is less like their own label than this one's: for a normal video
    # those of a lower rank, for an abnormal one those of a higher rank.
    beyond_same: int
    same: int  # other videos of its label's kind
    beyond_other: int
    other: int  # videos of the other kind

    @property
    def is_disputed(self) -> bool:
        return self.dispute > DISPUTED


@dataclasses.dataclass(frozen=True)
class ClassDispute:
    """An abnormal video to which the model gives another class than its label's."""

    video: int
    suggested: int  # class index
    probability: float  # of the suggested class, among the anomaly classes
    label_probability: float  # of the likeliest class of the label
    # Videos to which the model gives the suggested class as clearly or more clearly, and
    # how many of them are labelled so.
    as_clear: int
    agreeing: int

    @property
    def margin(self) -> float:
        return self.probability - self.label_probability


def video_scores(scores: Sequence[SnippetScores]) -> Float[np.ndarray, "V"]:
    """Returns the score of each video, that of its highest snippet, as `video_auc`."""
    return np.array([float(np.max(video.anomaly)) for video in scores], np.float64)


def ranks_in_folds(
    scores: Float[np.ndarray, "V"], fold: Int[np.ndarray, "V"]
) -> Float[np.ndarray, "V"]:
    """Returns each score's rank among the videos of its fold, in (0, 1)."""
    ranks = np.zeros(len(scores))
    for f in np.unique(fold):
        members = np.flatnonzero(fold == f)
        own = scores[members]
        below = (own[None] < own[:, None]).sum(1)
        equal = (own[None] == own[:, None]).sum(1)  # itself among them
        ranks[members] = (below + equal / 2) / len(members)
    return ranks


def logit(p: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Returns log(p / (1 - p))."""
    return np.log(p) - np.log1p(-p)


@dataclasses.dataclass(frozen=True)
class LogisticCurve:
    """Probability of the label abnormal, as a function of x."""

    intercept: float
    slope: float

    def __call__(self, x: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        return 1 / (1 + np.exp(-(self.intercept + self.slope * x)))

    @classmethod
    def fit(
        cls, x: Float[np.ndarray, "V"], abnormal: Bool[np.ndarray, "V"]
    ) -> "LogisticCurve":
        """Fits the curve by logistic regression; the slope has an L2 penalty.

        A negative slope would say that higher scores are more normal. It becomes 0: such
        a model knows nothing, and disputes nothing.
        """
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(C=1 / RIDGE).fit(x[:, None], abnormal)
        intercept, slope = float(fitted.intercept_[0]), float(fitted.coef_[0, 0])

        if slope < 0:
            share = float(np.clip(abnormal.mean(), 1e-6, 1 - 1e-6))
            return cls(float(np.log(share / (1 - share))), 0.0)
        return cls(intercept, slope)


def rank_curve(
    labels: Sequence[Label],
    fold: Int[np.ndarray, "V"],
    scores: Float[np.ndarray, "V"],
) -> LogisticCurve:
    """Returns the probability of the label abnormal, as a function of the rank's logit."""
    abnormal = np.array([is_abnormal(label) for label in labels])
    return LogisticCurve.fit(logit(ranks_in_folds(scores, fold)), abnormal)


def kind_disputes(
    labels: Sequence[Label],
    fold: Int[np.ndarray, "V"],
    scores: Float[np.ndarray, "V"],
) -> list[KindDispute]:
    """Returns all videos, those whose label is disputed most first.

    Args:
      labels: class indices of each video.
      fold: fold of each video, whose model was not trained on it.
      scores: score of each video.
    """
    abnormal = np.array([is_abnormal(label) for label in labels])
    ranks = ranks_in_folds(scores, fold)
    probability = rank_curve(labels, fold, scores)(logit(ranks))
    dispute = np.where(abnormal, 1 - probability, probability)

    # Turned so that a higher value is less like the label, whatever the label is.
    found = []
    for v in range(len(labels)):
        sign = -1 if abnormal[v] else 1
        beyond = sign * ranks < sign * ranks[v]
        same = abnormal == abnormal[v]
        found.append(
            KindDispute(
                video=v,
                abnormal=bool(abnormal[v]),
                fold=int(fold[v]),
                score=float(scores[v]),
                dispute=float(dispute[v]),
                beyond_same=int((beyond & same).sum()),
                same=int(same.sum()) - 1,
                beyond_other=int((beyond & ~same).sum()),
                other=int((~same).sum()),
            )
        )
    return sorted(found, key=lambda d: (-d.dispute, -d.beyond_same / max(d.same, 1)))


def class_probabilities(video: SnippetScores) -> Float[np.ndarray, "A"] | None:
    """Returns a video's probability of each anomaly class, which sum to 1.

    Each class counts with its likeliest snippets, one of 16 and one more. Class normal
    is left out: whether something happens is another question.
    """
    if video.classes is None or video.classes.shape[1] < 3:
        return None
    top = len(video.classes) // 16 + 1
    highest = np.sort(np.asarray(video.classes, np.float64)[:, 1:], axis=0)[-top:]
    mean = highest.mean(0)
    return mean / max(mean.sum(), 1e-12)


def class_disputes(
    labels: Sequence[Label],
    fold: Int[np.ndarray, "V"],
    scores: Sequence[SnippetScores],
) -> list[ClassDispute]:
    """Returns the abnormal videos to which the model gives another class.

    Those with the largest margin come first; there are none for a model without classes.
    Videos whose class is in no other fold are left out: their model never saw it.

    Args:
      labels: class indices of each video.
      fold: fold of each video.
      scores: scores of each video.
    """
    abnormal = [v for v, label in enumerate(labels) if is_abnormal(label)]
    found = {v: class_probabilities(scores[v]) for v in abnormal}
    known = {v: p for v, p in found.items() if p is not None}

    # The margin of the likeliest class over the likeliest other one, for all videos.
    best = {v: int(p.argmax()) + 1 for v, p in known.items()}
    lead = {v: float(p.max() - np.sort(p)[-2]) for v, p in known.items()}

    unseen = {v for videos in unseen_classes(labels, fold).values() for v in videos}
    disputes = []
    for v, p in known.items():
        own = [c for c in labels[v] if c > 0]
        if best[v] in own or v in unseen:
            continue
        clear = [u for u in known if best[u] == best[v] and lead[u] >= lead[v]]
        agreeing = sum(best[v] in labels[u] for u in clear)
        likeliest = max(float(p[c - 1]) for c in own)
        disputes.append(
            ClassDispute(v, best[v], float(p.max()), likeliest, len(clear), agreeing)
        )
    return sorted(disputes, key=lambda d: (-d.margin, d.video))


def unseen_classes(
    labels: Sequence[Label], fold: Int[np.ndarray, "V"]
) -> dict[int, list[int]]:
    """Returns, by class, the videos whose class is in no other fold."""
    folds: dict[int, set[int]] = {}
    for f, label in zip(fold, labels, strict=True):
        for c in label:
            folds.setdefault(c, set()).add(int(f))

    unseen: dict[int, list[int]] = {}
    for v, label in enumerate(labels):
        for c in label:
            if c > 0 and folds[c] == {int(fold[v])}:
                unseen.setdefault(c, []).append(v)
    return unseen
