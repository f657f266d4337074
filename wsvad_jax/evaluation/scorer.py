"""Scores videos window by window, and removes positional bias.

`evaluate` scores the windows of a split, `detect` those of one video; both call
`score_videos`. Batches are padded to one shape, so that one compiled program scores them
all. The scores of the padding are dropped.
"""

import contextlib
import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int, Num

from wsvad_jax.evaluation.position_bias import StaticWindows, remove_position_bias
from wsvad_jax.evaluation.windows import VideoWindows, WindowArray, windows_of_split
from wsvad_jax.metrics.frame_level import EvalVideo
from wsvad_jax.models.scores import SnippetScores
from wsvad_jax.parallel import multihost
from wsvad_jax.parallel.mesh import batch_sharding, check_batch, replicated_sharding
from wsvad_jax.utils.progress import Progress

if TYPE_CHECKING:
    from wsvad_jax.data.dataset import Entry
    from wsvad_jax.experiment.build import Experiment, ScoringModel
    from wsvad_jax.models.spec import ModelSpec


@dataclasses.dataclass(frozen=True)
class ScoringWeights:
    """Weights of a model with all that it needs to score, see `Scorer.weights`."""

    variables: dict[str, Any]  # `params` and `batch_stats`
    text: Any  # features of the class prompts; None without prompts


@functools.lru_cache(maxsize=8)
def compile_scoring(model: Any, spec: "ModelSpec", mesh: Mesh) -> Callable[..., Any]:
    """Returns the program (variables, features, length, text) → scores.

    Scorers of one model share it, so it is compiled once per process.
    """

    def score(variables, features, length, text):
        features = features.astype(jnp.float32)
        outputs = model.apply(variables, features, length, text, train=False)
        scores = spec.scores(outputs)
        # Ties of half-precision scores move average precision by several points.
        return jax.tree.map(lambda v: v.astype(jnp.float32), scores)

    batch_sharded = batch_sharding(mesh)
    return jax.jit(
        score,
        # None keeps the sharding of weights and text.
        in_shardings=(None, batch_sharded, batch_sharded, None),
        out_shardings=replicated_sharding(mesh),
    )


@functools.lru_cache(maxsize=8)
def compile_encode_text(model: Any) -> Callable[..., Any]:
    """Returns the program (params, text) → class features, one per model."""
    return jax.jit(model.encode_text)


class Scorer:
    """Scores windows with a recipe's model; compiled once, weights are arguments."""

    def __init__(self, scoring_model: "ScoringModel", *, fit_batches: bool = False):
        """Checks the batch size; compiles when the first windows arrive.

        Args:
          scoring_model: model and recipe.
          fit_batches: whether few windows are scored in a smaller batch. This compiles
            one program per power of two, and suits single videos.

        Raises:
          InputError: a batch that the devices can't divide.
        """
        self.scoring_model, self.fit_batches = scoring_model, fit_batches
        self.batch_size = scoring_model.config.eval.batch_size
        mesh = scoring_model.mesh
        check_batch(self.batch_size, mesh, "config.eval.batch_size")

        model, spec = scoring_model.model, scoring_model.spec
        self.program = compile_scoring(model, spec, mesh)

        # Class texts don't depend on the videos, so a separate program encodes them
        # once.
        self._encode_text: Callable | None = None
        if scoring_model.text is not None:
            self._encode_text = compile_encode_text(model)

    def weights(self, params: Any, batch_stats: Any) -> ScoringWeights:
        """Returns weights that are ready to score; encodes the class prompts.

        Args:
          params: parameters of the model.
          batch_stats: running statistics of the model, empty if it has none.
        """
        text = None
        if self._encode_text is not None:
            text = self._encode_text(params, self.scoring_model.text)
        return ScoringWeights({"params": params, "batch_stats": batch_stats}, text)

    def with_text(self, text: Any) -> "Scorer":
        """Returns a scorer that reads other class prompts, with the same programs.

        Args:
          text: prompts of as many classes, with the text tower of the recipe.
        """
        other = copy.copy(self)
        other.scoring_model = dataclasses.replace(self.scoring_model, text=text)
        return other

    def max_windows_per_batch(self, L: int) -> int:
        """Returns the number of windows of L snippets that a full batch holds.

        The recipe's batch size is for windows of T snippets. For longer windows, the
        batch is smaller in proportion.
        """
        devices = self.scoring_model.mesh.size
        rows = self.batch_size * self.scoring_model.T // L
        return max(rows // devices, 1) * devices

    def _choose_batch_size(self, W: int, L: int) -> int:
        largest = self.max_windows_per_batch(L)
        if not self.fit_batches:
            return largest

        B = self.scoring_model.mesh.size
        while B < min(W, largest):
            B *= 2
        return min(B, largest)

    def __call__(
        self,
        weights: ScoringWeights,
        features: "np.ndarray | WindowArray",
        length: Int[np.ndarray, "W"],
        *,
        label: str = "",
    ) -> SnippetScores:
        """Scores windows; returns float32 arrays of [W, L] and [W, L, C].

        Args:
          weights: result of `weights`.
          features: windows [W, N, L, D]; array, memmap or lazy `WindowArray`.
          length: valid snippets of each window.
          label: progress-bar label; "" shows no progress.
        """
        W, L = len(length), features.shape[2]
        B = self._choose_batch_size(W, L)

        # The last batch is padded to B, so one compiled program serves all.
        batches = []
        progress = Progress(label, W, unit="window") if label else None
        with progress or contextlib.nullcontext():
            for start in range(0, W, B):
                rows = slice(start, min(start + B, W))
                batch = self.score_batch(weights, features[rows], length[rows], B)
                batches.append(batch)
                if progress:
                    progress.update(rows.stop - start)

        return jax.tree.map(lambda *scores: np.concatenate(scores), *batches)

    def score_batch(
        self,
        weights: ScoringWeights,
        features: Num[np.ndarray, "W N L D"],
        length: Int[np.ndarray, "W"],
        batch_size: int,
    ) -> SnippetScores:
        """Scores W windows at once, padded to a batch of `batch_size` ≥ W.

        Args:
          weights: result of `weights`.
          features: windows.
          length: valid snippets of each window.
          batch_size: batch size of the compiled program.
        """
        # Every process has all windows; each transfers its own rows.
        W = len(length)
        x, n = _pad_batch(features, length, batch_size)
        x, n = multihost.shard_replicated_batch((x, n), self.scoring_model.mesh)

        scores = jax.device_get(self.program(weights.variables, x, n, weights.text))
        return jax.tree.map(lambda value: value[:W], scores)


def _pad_batch(features, length, B):
    # Padding rows have length 1, so no mean over their snippets divides by zero.
    missing = B - len(length)
    x = np.concatenate([features, np.zeros((missing, *features.shape[1:]), np.float16)])
    return x, np.concatenate([length, np.ones(missing, np.int32)]).astype(np.int32)


def score_videos(
    scorer: Scorer,
    weights: ScoringWeights,
    windows: VideoWindows,
    *,
    label: str = "",
) -> list[SnippetScores]:
    """Scores videos; removes positional bias where the recipe says so.

    Args:
      scorer: scorer of the model.
      weights: weights of the model.
      windows: windows of the videos.
      label: progress-bar label; "" shows no progress.
    """
    window_scores = scorer(weights, windows.features, windows.length, label=label)
    scores = join_windows(window_scores, windows.length, windows.num_snippets)
    if not scorer.scoring_model.remove_position_bias:
        return scores  # raw, as the released test scripts return them

    # Branches are curves of the same windows, with a bias of their own.
    baseline = baseline_scores(scorer, weights, windows, scores, label=label)
    return [
        dataclasses.replace(
            video,
            anomaly=remove_position_bias(video.anomaly, static.anomaly),
            branches={
                name: remove_position_bias(curve, static.branches[name])
                for name, curve in video.branches.items()
            },
        )
        for video, static in zip(scores, baseline, strict=True)
    ]


def baseline_scores(
    scorer: Scorer,
    weights: ScoringWeights,
    windows: VideoWindows,
    scores: Sequence[SnippetScores],
    *,
    label: str = "",
) -> list[SnippetScores]:
    """Scores static videos, which repeat the calm moments of the scored videos.

    What differs between their snippets is positional bias, see `position_bias`.

    Args:
      scorer: scorer of the model.
      weights: weights of the model.
      windows: windows of the scored videos.
      scores: raw scores of the videos.
      label: progress-bar label; "" shows no progress.
    """
    # Windows of a static video differ by length alone: each length is scored once.
    unique_windows, inverse = np.unique(
        np.stack([windows.video, windows.length]), axis=1, return_inverse=True
    )
    static = StaticWindows(windows, [video.anomaly for video in scores], unique_windows)

    label = f"{label}, static video" if label else ""
    unique_scores = scorer(weights, static, unique_windows[1], label=label)

    window_scores = jax.tree.map(lambda v: v[inverse.ravel()], unique_scores)
    return join_windows(window_scores, windows.length, windows.num_snippets)


def join_windows(
    scores: SnippetScores,
    length: Int[np.ndarray, "W"],
    num_snippets: Int[np.ndarray, "V"],
) -> list[SnippetScores]:
    """Joins the windows of each video and cuts the padding.

    Args:
      scores: scores of windows, in the order of the videos.
      length: valid snippets of each window.
      num_snippets: snippets of each video.
    """
    # The mask drops padding; the rest is in the order of videos and snippets.
    L = scores.anomaly.shape[1]
    valid = np.arange(L) < length[:, None]
    joined = jax.tree.map(lambda v: v[valid], scores)

    ends = np.cumsum(num_snippets)
    spans = map(slice, ends - num_snippets, ends)
    return [jax.tree.map(lambda v, span=span: v[span], joined) for span in spans]


def score_split(
    experiment: "Experiment",
    scorer: Scorer,
    params: Any,
    batch_stats: Any,
    name: str = "test",
    *,
    with_baseline: bool = False,
) -> list[EvalVideo]:
    """Scores every video of split `name`.

    `config.eval.mode` is `windows` or `whole`, see `evaluation.windows`.

    Args:
      experiment: dataset, model and recipe.
      scorer: scorer of the model.
      params: parameters of the model.
      batch_stats: running statistics of the model, empty if it has none.
      name: name of the split.
      with_baseline: whether static videos are scored, too, if positional bias isn't
        removed from the scores; events need them.
    """
    with_baseline &= not experiment.remove_position_bias
    entries = experiment.dataset.split(name).entries
    weights = scorer.weights(params, batch_stats)

    # Groups are sorted by length, so scores are put back by index.
    videos: list[Any] = [None] * len(entries)
    baselines: list[Any] = [None] * len(entries)
    for index, windows in windows_of_split(experiment, name):
        label = f"score {name}"
        if experiment.config.eval.mode == "whole":
            label += f", up to {windows.features.shape[2]} snippets"
        scores = score_videos(scorer, weights, windows, label=label)
        for i, video in zip(index, scores, strict=True):
            videos[i] = video

        if with_baseline:
            static = baseline_scores(scorer, weights, windows, scores, label=label)
            for i, video in zip(index, static, strict=True):
                baselines[i] = video.anomaly

    return [
        dataclasses.replace(video, baseline=baseline)
        for video, baseline in zip(
            with_ground_truth(entries, videos), baselines, strict=True
        )
    ]


def with_ground_truth(
    entries: Sequence["Entry"], scores: Sequence[SnippetScores]
) -> list[EvalVideo]:
    """Pairs the scores of each video with its ground truth."""
    return [
        EvalVideo(
            video=entry.video,
            anomaly=video.anomaly,
            classes=video.classes,
            segments=entry.segments,
            num_frames=entry.num_frames,
            label=entry.label,
            extra=dict(video.branches),
        )
        for entry, video in zip(entries, scores, strict=True)
    ]
