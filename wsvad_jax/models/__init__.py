"""The four published models, one file per paper, and zero-shot CLIP.

Letters used throughout: B videos, N crops, T snippets, D feature width, C classes
(index 0 is normal), L text tokens, H heads, P prototypes, K selected snippets,
S noise samples, W attention window, I segments, M chosen or drawn at a time.

Each model file exports its `SPEC`, which names
  Model(**config.model)               a pure linen module
  Model.__call__(features, length, text, *, train) -> Outputs
  loss_fn(outputs, batch, weights) -> (scalar, terms)
  scores(outputs) -> SnippetScores
(no loss_fn where nothing is trained) and what else the package asks of a model: see `wsvad_jax.models.spec.ModelSpec`.
"""

from wsvad_jax.models import clip_tsa, dsanet, mil_ranking, vadclip, zero_shot
from wsvad_jax.models.spec import ModelSpec

# A literal dictionary: editors find a model's definition, and another is one line.
MODELS: dict[str, ModelSpec] = {
    "mil_ranking": mil_ranking.SPEC,
    "clip_tsa": clip_tsa.SPEC,
    "vadclip": vadclip.SPEC,
    "dsanet": dsanet.SPEC,
    "zero_shot": zero_shot.SPEC,
}
