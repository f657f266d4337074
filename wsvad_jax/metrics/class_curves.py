"""ROC and precision-recall curves of each anomaly class.

Two questions have two curves:
  the anomaly score, against normal frames: is the class found? The positive frames are
    those of the class's events; the negative ones are in no event at all.
  the class's probability, against all other frames: is the class named? Events of other
    classes are negative, too.
Frames count as in `wsvad_jax.metrics.frame_level`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from wsvad_jax.metrics.frame_level import STRIDE, EvalVideo, Pool

CELLS = 400  # points of a drawn curve differ by at least 1/400 in x or y


@dataclasses.dataclass(frozen=True)
class ClassCurve:
    """Curves of one class, thinned so that they can be drawn."""

    name: str
    frames: int  # positive frames
    videos: int  # videos with an event of the class
    auc: float  # area under the whole ROC curve
    ap: float  # step-wise area under precision-recall
    fpr: Float[np.ndarray, "P"]
    tpr: Float[np.ndarray, "P"]
    recall: Float[np.ndarray, "Q"]
    precision: Float[np.ndarray, "Q"]


def against_normal(
    videos: Sequence[EvalVideo], class_names: Sequence[str], stride: int = STRIDE
) -> list[ClassCurve]:
    """Returns the curves of the anomaly score, of each class against normal frames.

    Classes without an event in the test set have no curve.

    Args:
      videos: scored test set; videos whose truth is unknown are left out.
      class_names: names of the classes, normal first.
      stride: frames per snippet.
    """
    videos = [v for v in videos if v.known]
    if not videos:
        return []

    # Normal frames are in no event, whatever its class.
    normal = Pool.of(videos, None, stride).negative
    curves = []
    for c, name in enumerate(class_names[1:], 1):
        own = Pool.of([_with_events_of(v, c) for v in videos], None, stride)
        pool = dataclasses.replace(own, negative=normal)
        if pool.has_both_kinds:
            curves.append(_curve(name, pool))
    return curves


def against_all(
    videos: Sequence[EvalVideo], class_names: Sequence[str], stride: int = STRIDE
) -> list[ClassCurve]:
    """Returns the curves of each class's probability, against all other frames.

    Classes without an event in the test set have no curve; [] for a model without class
    probabilities.

    Args:
      videos: scored test set; videos whose truth is unknown are left out.
      class_names: names of the classes, normal first.
      stride: frames per snippet.
    """
    videos = [v for v in videos if v.known]
    if not videos or any(v.classes is None for v in videos):
        return []
    pools = [
        (name, class_pool(videos, c, stride))
        for c, name in enumerate(class_names[1:], 1)
    ]
    return [_curve(name, pool) for name, pool in pools if pool.has_both_kinds]


def class_pool(videos: Sequence[EvalVideo], c: int, stride: int = STRIDE) -> Pool:
    """Returns the snippets with the probability of class `c`, whose events are true.

    Args:
      videos: scored test set, with class probabilities and known truth.
      c: index of an anomaly class.
      stride: frames per snippet.
    """
    own = [
        dataclasses.replace(
            _with_events_of(v, c),
            anomaly=v.classes[:, c],  # pyright: ignore[reportOptionalSubscript]
        )
        for v in videos
    ]
    return Pool.of(own, None, stride)


def _with_events_of(video: EvalVideo, c: int) -> EvalVideo:
    segments = tuple(s for s in video.segments if s[2] == c)
    label = (c,) if segments else (0,)
    return dataclasses.replace(video, segments=segments, label=label)


def _curve(name: str, pool: Pool) -> ClassCurve:
    from sklearn import metrics

    fpr, tpr = pool.roc_curve()
    precision, recall = pool.precision_recall_curve()
    return ClassCurve(
        name,
        int(pool.positive.sum()),
        len(np.unique(pool.video[pool.positive > 0])),
        float(metrics.auc(fpr, tpr)),
        pool.average_precision(),
        *_thinned(fpr, tpr),
        *_thinned(*_from_the_first_hit(recall, precision)),
    )


def _from_the_first_hit(
    recall: Float[np.ndarray, "Q"], precision: Float[np.ndarray, "Q"]
) -> tuple[Float[np.ndarray, "Q1"], Float[np.ndarray, "Q1"]]:
    """Returns a precision-recall curve from the highest score on.

    scikit-learn's first point, precision 1 at recall 0, belongs to no score.
    """
    recall, precision = recall[-2::-1], precision[-2::-1]
    return np.append(0.0, recall), np.append(precision[0], precision)


def _thinned(
    x: Float[np.ndarray, "P"], y: Float[np.ndarray, "P"]
) -> tuple[Float[np.ndarray, "Q"], Float[np.ndarray, "Q"]]:
    """Drops points of a curve that are in the same small square as the one before."""
    cells = np.stack([np.floor(x * CELLS), np.floor(y * CELLS)])
    keep = np.append(True, (np.diff(cells, axis=1) != 0).any(0))
    keep[-1] = True
    return x[keep], y[keep]
