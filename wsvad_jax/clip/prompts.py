"""Class prompts as the text tower takes them: tokens, end tokens, owners.

A class may have several descriptions, whose features are averaged (DSANet, Yin et al.
2026, arXiv 2511.10334): `TextInputs.owner` is the matrix of that mean. Tokens are cut
after the longest prompt's end token, which is exact because the text tower is causal.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from wsvad_jax.clip import hub
from wsvad_jax.clip.load import Snapshot
from wsvad_jax.clip.towers import TextConfig, eos_positions
from wsvad_jax.errors import InputError

PADDING = 0  # as OpenAI's tokenizer fills up; never read, since it follows the end


@struct.dataclass
class TextInputs:
    """A card's prompts with the frozen text tower: an argument of the jitted step."""

    # Any, since JAX puts shardings and shapes in the places of a tree's arrays.
    tokens: Int[Array | np.ndarray, "K L"] | Any
    eos: Int[Array | np.ndarray, "K"] | Any  # index of each prompt's end token
    owner: Float[Array | np.ndarray, "C K"] | Any  # rows sum to 1
    params: dict[str, Any]  # 'text_model' and 'text_projection', float32
    config: TextConfig = struct.field(pytree_node=False)


def text_inputs(snapshot: Snapshot, prompts: Sequence[Sequence[str]]) -> TextInputs:
    """Returns the inputs for classes with these descriptions.

    Args:
      snapshot: the model whose tokenizer and text tower are used.
      prompts: each class's descriptions, in the order of the classes.

    Raises:
      InputError: as `tokenize`.
    """
    tokens, eos, owner = tokenize(prompts, snapshot.path, snapshot.text)
    params = {k: snapshot.params[k] for k in ("text_model", "text_projection")}
    return TextInputs(tokens, eos, owner, params, snapshot.text)


def tokenize(
    prompts: Sequence[Sequence[str]],
    snapshot_dir: str | os.PathLike,
    config: TextConfig,
) -> tuple[Int[np.ndarray, "K L"], Int[np.ndarray, "K"], Float[np.ndarray, "C K"]]:
    """Returns token ids, the index of each end token, and who owns which prompt.

    Args:
      prompts: each class's descriptions, in the order of the classes.
      snapshot_dir: the folder with the tokenizer's files.
      config: the text tower that the tokens are for.

    Raises:
      InputError: a class without a description, an empty or too long description, or
        tokenizer files that are missing, damaged or another model's.
    """
    flat = [prompt for descriptions in prompts for prompt in descriptions]
    if not flat or not all(prompts) or not all(prompt.strip() for prompt in flat):
        raise InputError(
            f"the prompts {[list(p) for p in prompts]} leave a class without words; "
            "give every class at least one description"
        )
    rows = _tokenizer(pathlib.Path(snapshot_dir))(flat)["input_ids"]
    for prompt, row in zip(flat, rows, strict=True):
        if len(row) > config.max_position_embeddings:
            raise InputError(
                f"the prompt {prompt!r} takes {len(row)} tokens, but the CLIP text "
                f"tower reads {config.max_position_embeddings}; shorten it"
            )
        if max(row) >= config.vocab_size:
            raise InputError(
                f"{snapshot_dir}: token {max(row)} of the prompt {prompt!r} is outside "
                f"config.json's vocabulary of {config.vocab_size}; config.json and the "
                "tokenizer files are not of one model"
            )
    tokens = np.full((len(rows), max(map(len, rows))), PADDING, np.int32)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
    eos = eos_positions(tokens, config.eos_token_id).astype(np.int32)
    return tokens[:, : eos.max() + 1], eos, _owner([len(p) for p in prompts])


def _owner(counts: Sequence[int]) -> Float[np.ndarray, "C K"]:
    classes = np.repeat(np.arange(len(counts)), counts)
    owner = classes[None, :] == np.arange(len(counts))[:, None]
    return (owner / owner.sum(axis=1, keepdims=True)).astype(np.float32)


def _tokenizer(path: pathlib.Path) -> Any:
    # transformers 5 makes a tokenizer of three tokens where the files are missing.
    if not (path / "tokenizer.json").exists():
        for name in ("vocab.json", "merges.txt"):
            if not (path / name).exists():
                raise InputError(
                    f"{path / name}: no such file; a CLIP snapshot needs tokenizer.json "
                    "or both vocab.json and merges.txt"
                )
    # Not AutoTokenizer: a file may name a class to it, even code to run. Version 5 has
    # one CLIP tokenizer under both names, 4 reads tokenizer.json with this one only.
    transformers = hub.transformers()

    try:
        return transformers.CLIPTokenizerFast.from_pretrained(
            path, local_files_only=True
        )
    except Exception as e:  # noqa: BLE001 - tokenizers raises bare exceptions
        raise InputError(
            f"{path}: transformers can't read the tokenizer's files: "
            f"{' '.join(str(e).split())[:200]}"
        ) from None
