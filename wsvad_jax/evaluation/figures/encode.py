"""Reads the features of chosen snippets, as they are and as a model encodes them."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, Int

from wsvad_jax.evaluation.figures.sample import SnippetSample
from wsvad_jax.evaluation.windows import VideoWindows, windows_of_split
from wsvad_jax.utils.progress import Progress

if TYPE_CHECKING:
    from wsvad_jax.evaluation.scorer import Scorer, ScoringWeights
    from wsvad_jax.experiment.build import Experiment
    from wsvad_jax.models.encoded_features import EncodedLayer


@dataclasses.dataclass(frozen=True)
class StageFeatures:
    """Features of S snippets and of C class texts at one place of a model."""

    title: str
    snippets: Float[np.ndarray, "S D"]
    texts: Float[np.ndarray, "C D"] | None  # in the space of the snippets
    note: str = ""  # why there are no texts


def read_features(
    experiment: "Experiment", params: Any, batch_stats: Any, sample: SnippetSample
) -> list[StageFeatures]:
    """Returns the features of snippets before a model and, where known, after it.

    The first entry has the dataset's features; several crops are averaged.

    Args:
      experiment: dataset, model and recipe.
      params: parameters of the model.
      batch_stats: running statistics of the model, empty if it has none.
      sample: chosen snippets of the test split.
    """
    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.models.encoded_features import encoded_layer

    spec = experiment.spec
    layer = encoded_layer(spec)
    scorer = Scorer(experiment)
    weights = scorer.weights(params, batch_stats)

    # Places of the chosen snippets in the sample, by video.
    plain: list[Any] = [None] * len(sample.video)
    encoded: list[Any] = [None] * len(sample.video)
    for index, windows in windows_of_split(experiment, "test"):
        rows, window, t = snippets_in_windows(sample, index, windows)
        if len(rows):
            values = _read_group(scorer, weights, layer, windows, window, t)
            for row, own, made in zip(rows, *values, strict=True):
                plain[row], encoded[row] = own, made

    texts, why = clip_texts(experiment)
    before = [StageFeatures("features", np.stack(plain), texts, why)]
    if layer is None:
        return before

    # A model's own class features are in the space of its encoder.
    own_texts, note = None, ""
    if spec.reads_text:
        own_texts = np.asarray(weights.text, np.float32)
    else:
        note = f"{spec.title} reads no class texts"
    return [
        *before,
        StageFeatures(layer.title, np.stack(encoded), own_texts, note),
    ]


def snippets_in_windows(
    sample: SnippetSample, index: Int[np.ndarray, "V"], windows: VideoWindows
) -> tuple[Int[np.ndarray, "R"], Int[np.ndarray, "R"], Int[np.ndarray, "R"]]:
    """Returns which chosen snippets a group of windows holds, and where.

    Args:
      sample: chosen snippets of a split.
      index: indices of the group's videos in the split.
      windows: windows of these videos.

    Returns:
      Rows of the sample, and of each its window and its place in it.
    """
    rows = np.flatnonzero(np.isin(sample.video, index))
    order = np.argsort(index)
    group_video = order[np.searchsorted(index[order], sample.video[rows])]

    # Windows of a video follow each other.
    L = windows.features.shape[2]
    first = np.searchsorted(windows.video, np.arange(len(index)))
    return (
        rows,
        first[group_video] + sample.snippet[rows] // L,
        sample.snippet[rows] % L,
    )


def _read_group(
    scorer: "Scorer",
    weights: "ScoringWeights",
    layer: "EncodedLayer | None",
    windows: VideoWindows,
    window: Int[np.ndarray, "R"],
    t: Int[np.ndarray, "R"],
) -> tuple[list[Any], list[Any]]:
    """Returns the plain and the encoded features of snippets t in windows."""
    used = np.unique(window)
    L = windows.features.shape[2]
    B = min(scorer.max_windows_per_batch(L), len(used))
    encode = _encoder(scorer, layer) if layer is not None else None

    plain: list[Any] = [None] * len(t)
    encoded: list[Any] = [None] * len(t)
    with Progress("features for figures", len(used), unit="window") as progress:
        for start in range(0, len(used), B):
            batch = used[start : start + B]
            x = np.concatenate([windows.features[i : i + 1] for i in batch])
            length = windows.length[batch].astype(np.int32)
            made = encode(weights, x, length, B) if encode else None

            for row in np.flatnonzero(np.isin(window, batch)):
                i = np.searchsorted(batch, window[row])
                plain[row] = x[i, :, t[row]].astype(np.float32).mean(0)
                encoded[row] = made[i, t[row]] if made is not None else None
            progress.update(len(batch))
    return plain, encoded


def _encoder(scorer: "Scorer", layer: "EncodedLayer") -> Any:
    """Returns a function to the encoded features of windows [W, L, E]."""
    import jax
    import jax.numpy as jnp

    from wsvad_jax.models.encoded_features import encoded_features

    model = scorer.scoring_model.model

    @jax.jit
    def program(variables, features, length, text):
        x = features.astype(jnp.float32)
        return encoded_features(layer, model, variables, x, length, text)

    def encode(
        weights: "ScoringWeights", x: np.ndarray, length: np.ndarray, B: int
    ) -> Float32[np.ndarray, "W L E"]:
        # The last batch is padded, so that one compiled program serves all.
        W, missing = len(x), B - len(x)
        x = np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)])
        length = np.concatenate([length, np.ones(missing, np.int32)])
        return np.asarray(program(weights.variables, x, length, weights.text))[:W]

    return encode


def clip_texts(
    experiment: "Experiment",
) -> tuple[Float[np.ndarray, "C D"] | None, str]:
    """Returns CLIP's features of the class prompts, or None and the reason.

    They compare with snippets only if both come from one CLIP model.
    """
    from wsvad_jax.clip import towers
    from wsvad_jax.data import feature_protocols

    text, tower = experiment.text, experiment.text_tower_id
    if text is None or tower is None:
        return None, f"{experiment.spec.title} reads no class texts"

    made_by = feature_protocols.settings_noted(experiment.dataset.protocol).get(
        "weights"
    )
    wanted = (tower.get("settings") or {}).get("weights") or ""
    if tower["clip"] == "random":
        return None, "the text tower has random weights"
    if not made_by or not wanted.startswith(made_by):
        return None, (
            f"the features are of {experiment.dataset.protocol.encoder}, which is not "
            "known to be the CLIP model of the texts"
        )

    prompts = towers.encode_text(text.params, text.config, text.tokens, text.eos)
    prompts = np.asarray(prompts, np.float32)
    prompts = prompts / np.linalg.norm(prompts, axis=1, keepdims=True)
    return np.asarray(text.class_from_prompt) @ prompts, ""
