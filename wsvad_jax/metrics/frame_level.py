"""Frame-level, video-level and fine-grained metrics of a test set.

  auc            ROC area over all frames (Sultani et al., arXiv 1801.04264)
  ano_auc        the same over the frames of abnormal videos only
  ap             step-wise average precision (scikit-learn's; VadCLIP, DSANet)
  ap_trapezoid   trapezoidal area under precision-recall (RTFM, CLIP-TSA, XDVioDet)
  far            false alarm rate: share of normal videos' frames scored 0.5 or more
  recall@fprX    largest share of anomalous frames found at false positive rate <= X
  video_auc      ROC area of each video's highest snippet score against its label
  map, map_avg, map_avg_clean                                       (temporal_map.py)

Every value is a fraction in [0, 1], or None where it is undefined: frames of one kind
only, no class probabilities, or no true events.

The score of a snippet counts for each of its `stride` frames, but snippets are not
expanded to frames. Each snippet enters twice, as anomalous and as normal, weighted by its
number of such frames. The metrics equal those of expanded frames. Frames of an abnormal
video without true events are neither: such a video counts in video_auc alone.

Letters: V videos, T snippets of a video, S snippets of all videos, C classes,
R bootstrap resamples, U distinct scores.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from wsvad_jax.metrics import temporal_map
from wsvad_jax.utils.errors import InputError

STRIDE = 16  # frames per snippet
THRESHOLD = 0.5  # lowest score that counts as an alarm in `far`
FPRS = (0.01, 0.05)  # false positive rates at which recall is reported

# The released ground truths treat normal videos differently, see `evaluate`.
NORMAL_TRUTHS = ("unmatched", "whole_video")


@dataclasses.dataclass(frozen=True)
class EvalVideo:
    """Scores of one test video and its ground truth."""

    video: str
    anomaly: Float[np.ndarray, "T"]  # score of each snippet, float32 or wider
    classes: Float[np.ndarray, "T C"] | None  # class probabilities
    segments: tuple[tuple[int, int, int], ...]  # true (start, end, class), frames
    num_frames: int
    label: tuple[int, ...]  # class indices; (0,) is a normal video
    extra: Mapping[str, Float[np.ndarray, "T"]] = dataclasses.field(
        default_factory=dict
    )  # further anomaly curves, e.g. "align"
    # Scores of the static video where `anomaly` has positional bias (`position_bias`).
    baseline: Float[np.ndarray, "T"] | None = None

    @property
    def abnormal(self) -> bool:
        return any(c > 0 for c in self.label)

    @property
    def known(self) -> bool:
        """Whether its frames' truth is known: an abnormal video needs true events."""
        return not self.abnormal or any(c > 0 for *_, c in self.segments)


def frame_truth(
    segments: Sequence[tuple[int, int, int]], num_snippets: int, stride: int = STRIDE
) -> Bool[np.ndarray, "frames"]:
    """Ground truth of `num_snippets * stride` frames, True inside an anomalous event.

    Events are clipped to these frames.
    """
    # Class 0 is normal: its segments are no events.
    truth = np.zeros(num_snippets * stride, bool)
    for start, end, category in segments:
        if category > 0:
            truth[max(start, 0) : max(end, 0)] = True
    return truth


def evaluate(
    videos: Sequence[EvalVideo],
    class_names: Sequence[str],
    *,
    normal_truth: str = "unmatched",
    stride: int = STRIDE,
    slack: int | None = 0,
) -> dict[str, Any]:
    """Returns the metrics of `results.json`; keys of extra curves have a suffix.

    Args:
      videos: scored test set, each video once.
      class_names: names of the classes, normal first.
      normal_truth: treatment of normal videos in `map`. "unmatched": they have no true
        event, and class normal scores 0 (released UCF-Crime truth). "whole_video": one
        event of class normal spans the video (XD-Violence).
      stride: frames per snippet.
      slack: snippets by which scores may be longer or shorter than their video; None
        for scores of resampled videos, for which only video_auc is meaningful.

    Raises:
      InputError: no videos, a duplicate video, scores that are not finite or not
        float32, curves of different lengths, a length that differs from the video's,
        class probabilities that don't match `class_names`, a normal video with events,
        or an unknown `normal_truth`.
    """
    if normal_truth not in NORMAL_TRUTHS:
        raise InputError(
            f"normal_truth is {normal_truth!r}, expected one of "
            f"{', '.join(NORMAL_TRUTHS)}"
        )

    check(videos, class_names, stride=stride, slack=slack)

    # The main curve has plain keys; extra curves have their name as suffix.
    results = _curve_metrics(Pool.of(videos, None, stride), "")
    results.update(_map_metrics(videos, normal_truth, stride))
    for name in videos[0].extra:
        results.update(_curve_metrics(Pool.of(videos, name, stride), f"_{name}"))
    return results


@dataclasses.dataclass(frozen=True)
class Pool:
    """Snippets of all videos concatenated, with counts of their true frames."""

    score: Float[np.ndarray, "S"]
    positive: Int[np.ndarray, "S"]  # anomalous frames of the snippet
    negative: Int[np.ndarray, "S"]
    video: Int[np.ndarray, "S"]
    abnormal: Bool[np.ndarray, "V"]

    @classmethod
    def of(cls, videos: Sequence[EvalVideo], curve: str | None, stride: int) -> "Pool":
        """Pools `anomaly`, or the extra curve named `curve`."""
        scores = [v.anomaly if curve is None else v.extra[curve] for v in videos]

        # An event may cover a part of a snippet, so frames are counted per snippet.
        positive = np.concatenate(
            [
                frame_truth(v.segments, len(s), stride).reshape(-1, stride).sum(1)
                for v, s in zip(videos, scores, strict=True)
            ]
        )

        lengths = [len(s) for s in scores]
        return cls(
            np.concatenate(scores).astype(np.float64),
            positive,
            (stride - positive) * np.repeat([v.known for v in videos], lengths),
            np.repeat(np.arange(len(videos)), lengths),
            np.array([v.abnormal for v in videos]),
        )

    def abnormal_only(self) -> "Pool":
        return self._where(self.abnormal[self.video])

    def normal_only(self) -> "Pool":
        return self._where(~self.abnormal[self.video])

    def per_video(self) -> "Pool":
        """Returns one entry per video: its highest score, as one frame of its label."""
        # Videos are contiguous, so each begins where its index first appears.
        first = np.flatnonzero(np.diff(self.video, prepend=-1))
        score = np.maximum.reduceat(self.score, first)
        positive = self.abnormal.astype(np.int64)
        return Pool(score, positive, 1 - positive, np.arange(len(score)), self.abnormal)

    @property
    def has_both_kinds(self) -> bool:
        """Whether there are anomalous and normal frames, which the curves need."""
        return bool(self.positive.any() and self.negative.any())

    def roc_curve(self) -> tuple[Float[np.ndarray, "U"], Float[np.ndarray, "U"]]:
        """Returns false and true positive rates at each distinct score, highest first."""
        from sklearn import metrics

        truth, score, weight = self._weighted()
        fpr, tpr, _ = metrics.roc_curve(
            truth, score, sample_weight=weight, drop_intermediate=False
        )
        return fpr, tpr

    def precision_recall_curve(
        self,
    ) -> tuple[Float[np.ndarray, "U"], Float[np.ndarray, "U"]]:
        """Returns precision and recall at each distinct score, lowest first.

        They end with precision 1 at recall 0.
        """
        from sklearn import metrics

        truth, score, weight = self._weighted()
        precision, recall, _ = metrics.precision_recall_curve(
            truth, score, sample_weight=weight
        )
        return precision, recall

    def average_precision(self) -> float:
        """Returns the step-wise area under precision-recall."""
        precision, recall = self.precision_recall_curve()
        # scikit-learn's average_precision_score is this sum over the same curve.
        return float(-np.sum(np.diff(recall) * precision[:-1]))

    def _weighted(self):
        """Returns scikit-learn's arguments: truth, score and weight of each entry."""
        truth = np.repeat([1, 0], len(self.score))
        weight = np.concatenate([self.positive, self.negative]).astype(np.float64)
        used = weight > 0
        return truth[used], np.tile(self.score, 2)[used], weight[used]

    def _where(self, keep):
        return Pool(
            self.score[keep],
            self.positive[keep],
            self.negative[keep],
            self.video[keep],
            self.abnormal,
        )


def _curve_metrics(pool: Pool, suffix: str) -> dict[str, float | None]:
    """Returns the metrics of one anomaly curve."""
    auc, recalls = _roc_metrics(pool)
    ap, ap_trapezoid = _average_precisions(pool)

    # The false alarm rate is defined on normal videos alone.
    normal = pool.normal_only()
    frames = (normal.positive + normal.negative).astype(np.float64)
    alarms = frames[normal.score >= THRESHOLD].sum()

    values = {
        "auc": auc,
        "ano_auc": _roc_metrics(pool.abnormal_only())[0],
        "ap": ap,
        "ap_trapezoid": ap_trapezoid,
        "far": float(alarms / frames.sum()) if len(frames) else None,
        **{f"recall@fpr{x}": r for x, r in zip(FPRS, recalls, strict=True)},
        "video_auc": _roc_metrics(pool.per_video())[0],
    }
    return {f"{key}{suffix}": value for key, value in values.items()}


def _roc_metrics(pool: Pool) -> tuple[float | None, list[float | None]]:
    """Returns the ROC area and the recalls at FPRS, or Nones where undefined."""
    from sklearn import metrics

    if not pool.has_both_kinds:
        return None, [None] * len(FPRS)

    fpr, tpr = pool.roc_curve()
    # The best threshold at or below each rate: no interpolation between thresholds.
    return float(metrics.auc(fpr, tpr)), [float(tpr[fpr <= x].max()) for x in FPRS]


def _average_precisions(pool: Pool) -> tuple[float | None, float | None]:
    """Returns the step-wise and trapezoidal precision-recall areas, or Nones."""
    from sklearn import metrics

    if not pool.has_both_kinds:
        return None, None

    precision, recall = pool.precision_recall_curve()
    return pool.average_precision(), float(metrics.auc(recall, precision))


def _map_metrics(videos, normal_truth, stride):
    """Returns `map`, `map_avg` and `map_avg_clean`, or Nones where undefined."""
    results: dict[str, Any] = dict.fromkeys(("map", "map_avg", "map_avg_clean"))
    if any(v.classes is None for v in videos):
        return results

    # Without true events no class has an average precision.
    videos = [v for v in videos if v.known]
    abnormal = [v for v in videos if v.abnormal]
    events = _events(abnormal, "unmatched")
    if not len(events):
        return results

    paper = temporal_map.released_map(
        [v.classes for v in videos], _events(videos, normal_truth), stride=stride
    )
    # Our variant leaves out normal videos, on which the published one depends.
    clean = temporal_map.anomaly_map(
        [v.classes for v in abnormal], events, stride=stride
    )

    results["map"] = paper.tolist()
    results["map_avg"] = float(paper.mean())
    results["map_avg_clean"] = float(clean.mean())
    return results


def _events(videos, normal_truth):
    """Returns the true events as rows (video, class, start, end)."""
    rows = [
        (i, category, start, end)
        for i, v in enumerate(videos)
        for start, end, category in v.segments
        if category > 0
    ]
    if normal_truth == "whole_video":
        rows += [
            (i, 0, 0, v.num_frames) for i, v in enumerate(videos) if not v.abnormal
        ]
    return np.array(rows, np.int64).reshape(-1, 4)


def check(
    videos: Sequence[EvalVideo],
    class_names: Sequence[str],
    *,
    stride: int = STRIDE,
    slack: int | None = 0,
) -> None:
    """Raises InputError, naming the video, for input that `evaluate` can't score."""
    if not videos:
        raise InputError("found no videos to evaluate, expected at least one")

    names = set()
    for v in videos:
        if v.video in names:
            raise InputError(f"{v.video}: the video is in the test set twice")
        names.add(v.video)
        # Metrics of a curve need all videos, so each video must have every curve.
        if v.extra.keys() != videos[0].extra.keys():
            raise InputError(
                f"{v.video}: found the curves {sorted(v.extra)}, expected "
                f"{sorted(videos[0].extra)} as in {videos[0].video}"
            )
        _check_curves(v)
        if slack is not None:
            _check_length(v, stride, slack)
        _check_classes(v, class_names)


def _check_curves(v):
    if not len(v.anomaly):
        raise InputError(f"{v.video}: no snippet was scored, expected at least one")

    for name, scores in {"anomaly": v.anomaly, **v.extra}.items():
        if len(scores) != len(v.anomaly):
            raise InputError(
                f"{v.video}: curve {name!r} has {len(scores)} snippets, expected "
                f"{len(v.anomaly)} as in the anomaly score"
            )

        # Half precision makes ties, which move the average precisions by points.
        if scores.dtype.itemsize < 4:
            raise InputError(
                f"{v.video}: curve {name!r} is {scores.dtype}, expected float32 scores"
            )

        if not np.isfinite(scores).all():
            raise InputError(f"{v.video}: curve {name!r} holds NaN or infinite scores")


def _check_length(v, stride, slack):
    """The last, incomplete snippet may be scored or left out."""
    T = len(v.anomaly)
    low, high = v.num_frames // stride - slack, -(-v.num_frames // stride) + slack
    if not low <= T <= high:
        raise InputError(
            f"{v.video}: {T} snippets of {stride} frames were scored, but the video "
            f"has {v.num_frames} frames; score and truth must be of one length"
        )


def _check_classes(v, class_names):
    C = len(class_names)
    if v.classes is not None:
        if v.classes.shape != (len(v.anomaly), C):
            raise InputError(
                f"{v.video}: class probabilities have shape {v.classes.shape}, "
                f"expected {(len(v.anomaly), C)} (snippets, classes)"
            )
        if not np.isfinite(v.classes).all():
            raise InputError(f"{v.video}: class probabilities hold NaN or infinity")

    # A class without a name would be left out of the fine-grained metrics.
    used = {*v.label, *(category for _, _, category in v.segments)}
    if bad := sorted(c for c in used if not 0 <= c < C):
        raise InputError(f"{v.video}: class index {bad[0]}, but there are {C} classes")
    if not v.abnormal and any(category > 0 for _, _, category in v.segments):
        raise InputError(f"{v.video}: labelled normal, but its truth has an anomaly")
