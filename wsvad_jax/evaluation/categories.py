"""Names the class of an event and of a snippet, from class probabilities."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

DEFAULT_CATEGORY = "anomaly"  # category of models without classes


def category(
    classes: Float[np.ndarray, "T C"] | None,
    class_names: Sequence[str],
    first: int,
    stop: int,
) -> str:
    """Returns the abnormal class with the highest mean probability over snippets."""
    if classes is None or len(class_names) < 2:
        return DEFAULT_CATEGORY
    return class_names[1 + int(np.argmax(classes[first:stop, 1:].mean(0)))]


def snippet_class(
    anomaly: float,
    classes: Float[np.ndarray, "C"],
    class_names: Sequence[str],
    level: float,
) -> str:
    """Returns the class that a snippet is shown with, which agrees with its score.

    Below `level`, that is the normal class; from it on, the abnormal class with the
    highest probability. Class probabilities alone may contradict the anomaly score,
    which another branch of the model computes.

    Args:
      anomaly: anomaly score of the snippet.
      classes: class probabilities of the snippet, class 0 normal.
      class_names: names of the C classes, normal first.
      level: score at which events end (`low`), so that all snippets of an event have an
        abnormal class.
    """
    if anomaly < level:
        return class_names[0]
    return category(classes[None], class_names, 0, 1)
