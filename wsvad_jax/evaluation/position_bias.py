"""Estimates and removes positional bias in windowed scores.

The distance graph of VadCLIP and DSANet is not normalised: its rows sum to 5.5 in the
middle of a window and to 3.2 at the ends. MIL's top-k therefore favours the ends,
independently of the content. A static video, which repeats one feature at each snippet,
measures this bias: its scores are the baseline. The correction is ours; papers and
releases have none. It needs numpy only.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float16, Int, Num

if TYPE_CHECKING:
    from wsvad_jax.evaluation.windows import VideoWindows

# The lowest scored quarter of a video's snippets counts as calm.
BASELINE_QUANTILE = 0.25


def static_feature(
    features: Num[np.ndarray, "N T D"], anomaly: Float[np.ndarray, "T"]
) -> Num[np.ndarray, "N 1 D"]:
    """Returns the mean feature of a video's calm moments, float16.

    Args:
      features: snippet features, in N crops.
      anomaly: anomaly scores of the snippets; the lowest quarter is calm.
    """
    # Calm moments only: the mean of all would contain the event.
    calm = features[:, anomaly <= np.quantile(anomaly, BASELINE_QUANTILE)]
    return calm.astype(np.float32).mean(1, keepdims=True).astype(np.float16)


def remove_position_bias(
    score: Float[np.ndarray, "T"], baseline: Float[np.ndarray, "T"]
) -> Float[np.ndarray, "T"]:
    """Removes positional bias from the scores of a video.

    The bias is the excess of the baseline over its minimum. It is subtracted from the
    logits, so scores stay between 0 and 1.

    Args:
      score: snippet scores, in [0, 1].
      baseline: snippet scores of a static video of the same length.
    """
    # What a static video scores above its minimum is bias.
    logit, base = _logit(score), _logit(baseline)
    excess = base - base.min(initial=np.inf)
    return (1 / (1 + np.exp(excess - logit))).astype(np.float32)


def _logit(p: np.ndarray) -> np.ndarray:
    # Bounded, since the logit of 0 or 1 is infinite.
    p = np.clip(p.astype(np.float64), 1e-4, 1 - 1e-4)
    return np.log(p / (1 - p))


class StaticWindows:
    """Windows of static videos, built slice by slice from scored videos.

    A static video repeats the mean feature of a video's calm moments.

    Args:
      windows: windows of the scored videos, in the order of the videos.
      anomaly: anomaly scores of each video.
      kinds: rows (video index, length) of the windows to build.
    """

    def __init__(
        self,
        windows: "VideoWindows",
        anomaly: Sequence[Float[np.ndarray, "..."]],
        kinds: Int[np.ndarray, "2 W"],
    ):
        self.windows, self.anomaly, self.kinds = windows, anomaly, kinds

    @property
    def shape(self) -> tuple[int, ...]:
        return self.kinds.shape[1], *self.windows.features.shape[1:]

    def __getitem__(self, part: slice) -> Float16[np.ndarray, "W N T D"]:
        windows, kinds = self.windows, self.kinds[:, part]
        _, N, T, D = windows.features.shape

        x = np.zeros((kinds.shape[1], N, T, D), np.float16)
        for i, (video, length) in enumerate(kinds.T.tolist()):
            # Windows of a video are consecutive; lazy arrays are read by slices alone.
            own = np.flatnonzero(windows.video == video)
            of_video = slice(int(own[0]), int(own[-1]) + 1)
            valid = np.arange(T) < windows.length[of_video, None]

            # Joined over windows: [snippets, N, D].
            snippets = np.moveaxis(windows.features[of_video], 1, 2)[valid]
            x[i, :, :length] = static_feature(
                snippets.swapaxes(0, 1), self.anomaly[video]
            )
        return x
