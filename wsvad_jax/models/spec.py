"""The interface between a model file and the rest of the package."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Array

from wsvad_jax.models.released import ReleasedCheckpoint
from wsvad_jax.models.scores import SnippetScores

Range = str | tuple[str, ...]  # "[0, 1)" holds 0 and not 1; a tuple lists words


@dataclasses.dataclass(frozen=True, eq=False)
class ModelSpec:
    """All that other sub-packages know about a model; `SPEC` of each model file.

    Args:
      name: value of `config.model_name` and key of `models.MODELS`.
      title: name in tables and messages.
      citation: authors, venue and address of the paper.
      Model: linen module. Its fields are the keys of `config.model`.
      loss_fn: objective (outputs, batch, weights) → (scalar, terms); None for a model
        without weights, which isn't trained.
      scores: inference, outputs → SnippetScores.
      field_ranges: valid values of the module's fields.
      microbatch_term_weights: function (model, microbatch, batch) → weight of a
        microbatch in each term's full-batch mean, which `loss_fn` takes as
        `term_weights`. None: the objective needs the whole batch at once. Such a
        model's videos are independent, and it draws no random numbers.
      reads_text: whether the model reads class prompts. Its module then has
        `encode_text(params, text)`.
      window_field: field that divides the window length T, for a model that learns
        positions in windows and can't score whole videos; None for other models.
      width_axis: path and axis of the parameter that has the width D of the features.
      length_axis: path and axis of the parameter that has the window length T, if any.
      fixed_noise: function (model, crops, T) → noise [crops, S, T] that a call without
        rngs uses at test time; None for a model that uses none.
      onnx_any_batch: whether an ONNX program can leave the batch size open.
      released: names in the PyTorch checkpoints of the released code, if there are any.
    """

    name: str
    title: str
    citation: str
    Model: Callable[..., Any]
    loss_fn: Callable[..., tuple[Array, dict[str, Array]]] | None
    scores: Callable[[Any], SnippetScores]
    field_ranges: Mapping[str, Range] = dataclasses.field(default_factory=dict)
    microbatch_term_weights: Callable[[Any, Any, Any], dict[str, Any]] | None = None
    reads_text: bool = False
    window_field: str | None = None
    width_axis: tuple[str, int] | None = None
    length_axis: tuple[str, int] | None = None
    fixed_noise: Callable[[Any, int, int], Array] | None = None
    onnx_any_batch: bool = False
    released: ReleasedCheckpoint | None = None

    @property
    def is_trained(self) -> bool:
        """Whether the model has weights that training learns."""
        return self.loss_fn is not None

    def window(self, model: Any) -> int:
        """Returns the number that must divide the window length T of `model`."""
        return 1 if self.window_field is None else getattr(model, self.window_field)
