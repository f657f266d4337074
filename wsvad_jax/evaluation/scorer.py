"""Scores the snippets of whole videos in fixed-shape batches of windows.

A compiled program sees one shape only: `batch_size` windows of T snippets. The last
batch is padded, and the scores of the padding are dropped.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float16, Int, Num

from wsvad_jax.evaluation.position_bias import StaticWindows, remove_position_bias
from wsvad_jax.metrics.frame_level import EvalVideo
from wsvad_jax.parallel import multihost
from wsvad_jax.parallel.mesh import batch_sharding, check_batch, replicated_sharding
from wsvad_jax.utils.progress import Progress

if TYPE_CHECKING:
    from wsvad_jax.data.tfds_builder import Entry
    from wsvad_jax.experiment.build import Experiment, ScoringModel

# Shorter videos would need further programs and save little time.
SHORTEST = 32  # shortest length that whole videos are padded to, in snippets
Scores = dict[str, np.ndarray]  # name → [windows, T] or [windows, T, C], float32


class Scorer:
    """Scores windows with a recipe's model; one compiled program for all weights."""

    def __init__(self, experiment: "ScoringModel"):
        self.experiment = experiment
        self.batch_size = experiment.config.eval.batch_size
        check_batch(self.batch_size, experiment.mesh, "config.eval.batch_size")

        everywhere, over_devices = (
            replicated_sharding(experiment.mesh),
            batch_sharding(experiment.mesh),
        )

        def score(variables, features, length, text):
            features = features.astype(jnp.float32)
            outputs = experiment.model.apply(
                variables, features, length, text, train=False
            )
            scores = experiment.spec.scores(outputs)
            # Ties of half-precision scores move average precision by several points.
            return {k: v.astype(jnp.float32) for k, v in scores.items()}

        self.program: Callable = jax.jit(
            score,
            # None: weights and text stay where training has put them.
            in_shardings=(None, over_devices, over_devices, None),
            out_shardings=everywhere,
        )
        # Class texts don't depend on the videos, so a separate program encodes them
        # once.
        self._encode_text: Callable | None = None
        if experiment.text is not None:
            self._encode_text = jax.jit(experiment.model.encode_text)

    def batch_of(self, L: int) -> int:
        """Number of videos of L snippets that fit into the size of a window batch."""
        devices = self.experiment.mesh.size
        rows = self.batch_size * self.experiment.T // L
        return max(rows // devices, 1) * devices

    def __call__(
        self,
        params: Any,
        batch_stats: Any,
        features: "Num[np.ndarray, 'W N T D'] | PaddedVideos | StaticWindows",
        length: Int[np.ndarray, "W"],
        *,
        label: str = "score",
        batch_size: int = 0,
    ) -> Scores:
        """Scores windows.

        Args:
          params: parameters of the model.
          batch_stats: running statistics of the model, empty if it has none.
          features: windows, in memory or memory-mapped.
          length: valid snippets of each window.
          label: progress-bar label.
          batch_size: windows at a time; 0 means the recipe's batch size.
        """
        variables = {"params": params, "batch_stats": batch_stats}
        text, W, B = (
            self.encode_text(params),
            len(length),
            batch_size or self.batch_size,
        )

        # The last batch is padded to B, so one compiled program serves all.
        found = []
        with Progress(label, W, unit="window") as progress:
            for start in range(0, W, B):
                part = slice(start, min(start + B, W))
                found.append(
                    self.batch(variables, text, features[part], length[part], B)
                )
                progress.update(part.stop - start)

        return {k: np.concatenate([scores[k] for scores in found]) for k in found[0]}

    def encode_text(self, params: Any) -> Any:
        """Returns the features of the class prompts; None if the model has none."""
        if self._encode_text is None:
            return None
        return self._encode_text(params, self.experiment.text)

    def batch(
        self,
        variables: dict[str, Any],
        text: Any,
        features: Num[np.ndarray, "W N T D"],
        length: Int[np.ndarray, "W"],
        batch_size: int,
    ) -> Scores:
        """Scores W windows at once, padded to a batch of `batch_size` ≥ W.

        Args:
          variables: `params` and `batch_stats` of the model.
          text: result of `encode_text`.
          features: windows.
          length: valid snippets of each window.
          batch_size: batch size of the compiled program.
        """
        # Every process has all windows; each puts its rows on its devices.
        W = len(length)
        x, n = _fill(features, length, batch_size)
        x, n = multihost.shard_replicated_batch((x, n), self.experiment.mesh)
        scores = jax.device_get(self.program(variables, x, n, text))
        return {name: value[:W] for name, value in scores.items()}


def _fill(features, length, B):
    # Padding rows have length 1, so no mean over their snippets divides by zero.
    missing = B - len(length)
    x = np.concatenate([features, np.zeros((missing, *features.shape[1:]), np.float16)])
    return x, np.concatenate([length, np.ones(missing, np.int32)]).astype(np.int32)


def per_video(
    scores: Scores, length: Int[np.ndarray, "W"], num_snippets: Int[np.ndarray, "V"]
) -> list[dict[str, np.ndarray]]:
    """Joins the windows of each video and cuts the padding.

    Args:
      scores: scores of windows, in the order of the videos.
      length: valid snippets of each window.
      num_snippets: snippets of each video.
    """
    # The mask drops padding; the rest is in the order of videos and snippets.
    T = next(iter(scores.values())).shape[1]
    valid = np.arange(T) < length[:, None]
    ends = np.cumsum(num_snippets)[:-1]
    joined = {k: np.split(v[valid], ends) for k, v in scores.items()}
    return [{k: v[i] for k, v in joined.items()} for i in range(len(num_snippets))]


def score_split(
    experiment: "Experiment",
    scorer: Scorer,
    params: Any,
    batch_stats: Any,
    name: str = "test",
) -> list[EvalVideo]:
    """Scores every video of split `name` as the released test scripts do.

    The mode is `config.eval.mode`:

      'windows': consecutive windows of T snippets, scored independently, the last one
        padded; the dataset card names the crop.
      'whole': every video at its full length, with all its crops.
    """
    entries = experiment.dataset.split(name).entries
    if experiment.config.eval.mode == "windows":
        scores = _score_windows(experiment, scorer, params, batch_stats, name)
    else:
        scores = _score_whole(experiment, scorer, params, batch_stats, name)
    return eval_videos(entries, scores)


def _score_windows(experiment, scorer, params, batch_stats, name):
    from wsvad_jax.data import packing

    windows = packing.pack_windows(
        experiment.dataset, name, experiment.T, experiment.dataset.card.test_crop
    )

    # The plain scores, which are final unless positional bias is removed.
    scores = scorer(
        params, batch_stats, windows.features, windows.length, label=f"score {name}"
    )
    videos = per_video(scores, windows.length, windows.num_snippets)
    if not experiment.remove_position_bias:
        return videos

    # A still video repeats one feature, so its windows differ by length alone: each
    # length is scored once.
    kinds, which = np.unique(
        np.stack([windows.video, windows.length]), axis=1, return_inverse=True
    )
    frozen = StaticWindows(windows, [v["anomaly"] for v in videos], kinds)
    scores = scorer(params, batch_stats, frozen, kinds[1], label=f"score {name}, still")

    # Back to one score per snippet, to be compared with the plain ones.
    calm = per_video(
        {k: v[which.ravel()] for k, v in scores.items()},
        windows.length,
        windows.num_snippets,
    )
    return [
        video
        | {
            k: remove_position_bias(v, c[k])
            for k, v in video.items()
            if k[:7] == "anomaly"
        }
        for video, c in zip(videos, calm, strict=True)
    ]


def _score_whole(experiment, scorer, params, batch_stats, name):
    split = experiment.dataset.split(name)
    num_snippets = np.array([e.num_snippets for e in split.entries], np.int32)
    buckets = bucket_lengths(num_snippets)

    found: list[dict[str, np.ndarray]] = [{} for _ in num_snippets]
    for L in np.unique(buckets):
        chosen = np.flatnonzero(buckets == L)
        length = num_snippets[chosen]
        # All videos of one padded length share a compiled program.
        scores = scorer(
            params,
            batch_stats,
            PaddedVideos(split, chosen, int(L)),
            length,
            label=f"score {name}, up to {L} snippets",
            batch_size=scorer.batch_of(int(L)),
        )
        for i, video in zip(chosen, per_video(scores, length, length), strict=True):
            found[i] = video
    return found


def bucket_lengths(num_snippets: Int[np.ndarray, "V"]) -> Int[np.ndarray, "V"]:
    """Padded length of each video: the next power of two, at least 32.

    One program is compiled per length, so any split needs only a few.
    """
    exponent = np.ceil(np.log2(np.maximum(num_snippets, SHORTEST)))
    return (2**exponent).astype(np.int64)


class PaddedVideos:
    """Videos of a split padded to L snippets, read slice by slice."""

    def __init__(self, split: Any, chosen: Int[np.ndarray, "V"], L: int):
        self.split, self.chosen, self.L = split, chosen, L

    def __getitem__(self, part: slice) -> Float16[np.ndarray, "V N L D"]:
        features = [self.split[int(i)].features for i in self.chosen[part]]
        N, _, D = features[0].shape
        x = np.zeros((len(features), N, self.L, D), np.float16)
        for row, value in zip(x, features, strict=True):
            row[:, : value.shape[1]] = value
        return x


def eval_videos(
    entries: Sequence["Entry"], scores: Sequence[Mapping[str, Float[np.ndarray, "..."]]]
) -> list[EvalVideo]:
    """Pairs the scores of each video with its ground truth."""
    return [
        EvalVideo(
            video=e.video,
            anomaly=s["anomaly"],
            classes=s.get("classes"),
            segments=e.segments,
            num_frames=e.num_frames,
            label=e.label,
            extra={
                k.removeprefix("anomaly_"): v
                for k, v in s.items()
                if k.startswith("anomaly_")
            },
        )
        for e, s in zip(entries, scores, strict=True)
    ]
