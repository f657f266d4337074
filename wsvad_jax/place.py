"""What a score owes to its snippet's place in the window, and scores without it.

VadCLIP's and DSANet's distance graph is not normalised: its rows sum to 5.5 in the
middle of a window and to 3.2 at the ends, so that the top-k of MIL soon reads the ends,
whatever is seen there. A still video, with the same feature at each snippet, shows by
how much. This correction is ours; the papers and releases know none. Needs numpy only.
"""

import numpy as np
from jaxtyping import Float, Num

USUAL = (
    0.25  # share of a video's snippets, the lowest scored, that are its calm moments
)


def still(
    features: Num[np.ndarray, "N T D"], anomaly: Float[np.ndarray, "T"]
) -> Num[np.ndarray, "N 1 D"]:
    """Returns the mean feature of a video's calm moments, float16.

    Args:
      features: of the snippets, in N crops.
      anomaly: their scores; the lowest quarter counts.
    """
    quiet = features[:, anomaly <= np.quantile(anomaly, USUAL)]
    return quiet.astype(np.float32).mean(1, keepdims=True).astype(np.float16)


def without_place(
    score: Float[np.ndarray, "T"], calm: Float[np.ndarray, "T"]
) -> Float[np.ndarray, "T"]:
    """Takes out of scores what comes from a snippet's place in the window alone.

    How far `calm` is above its lowest is subtracted, as logits, so that scores stay
    between 0 and 1.

    Args:
      score: of the snippets, in [0, 1].
      calm: of a still video of the same length, see `still`.
    """
    logit, place = _logit(score), _logit(calm)
    excess = place - place.min(initial=np.inf)
    return (1 / (1 + np.exp(excess - logit))).astype(np.float32)


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p.astype(np.float64), 1e-4, 1 - 1e-4)
    return np.log(p / (1 - p))
