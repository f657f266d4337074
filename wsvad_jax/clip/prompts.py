"""Tokenizes class prompts for the CLIP text tower.

A class may have several descriptions, whose features are averaged (DSANet, Yin et al.
2026, arXiv 2511.10334). The matrix `TextInputs.class_from_prompt` computes that mean.
Tokens are cut after the longest prompt's end token. This is exact, since the text tower
is causal.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from wsvad_jax.clip import hub
from wsvad_jax.clip.snapshot import Snapshot
from wsvad_jax.clip.towers import TextConfig, eos_positions
from wsvad_jax.utils.errors import InputError

PADDING = 0  # OpenAI's padding token; never read, since it follows the end token


@struct.dataclass
class TextInputs:
    """Tokenized prompts with the frozen text tower, an argument of the jitted step."""

    # Any, since JAX also builds this tree from shardings and shapes.
    tokens: Int[Array | np.ndarray, "K L"] | Any
    eos: Int[Array | np.ndarray, "K"] | Any  # index of each prompt's end token
    class_from_prompt: Float[Array | np.ndarray, "C K"] | Any  # rows sum to 1
    params: dict[str, Any]  # 'text_model', 'text_projection', 'logit_scale', float32
    config: TextConfig = struct.field(pytree_node=False)


def text_inputs(snapshot: Snapshot, prompts: Sequence[Sequence[str]]) -> TextInputs:
    """Builds the text inputs of a list of classes.

    Args:
      snapshot: CLIP model with the tokenizer and the text tower.
      prompts: descriptions of each class, in the order of the classes.

    Raises:
      InputError: the prompts can't be tokenized, see `tokenize`.
    """
    tokens, eos, class_from_prompt = tokenize(prompts, snapshot.path, snapshot.text)
    # Only zero-shot scoring reads the scale; a jitted step drops what it doesn't read.
    names = ("text_model", "text_projection", "logit_scale")
    params = {k: snapshot.params[k] for k in names}
    return TextInputs(tokens, eos, class_from_prompt, params, snapshot.text)


def tokenize(
    prompts: Sequence[Sequence[str]],
    snapshot_dir: str | os.PathLike,
    config: TextConfig,
) -> tuple[Int[np.ndarray, "K L"], Int[np.ndarray, "K"], Float[np.ndarray, "C K"]]:
    """Returns token ids, the index of each end token, and the matrix of the classes.

    Row c of that matrix averages the prompts of class c.

    Args:
      prompts: descriptions of each class, in the order of the classes.
      snapshot_dir: folder with the tokenizer's files.
      config: sizes of the text tower.

    Raises:
      InputError: a class has no description, a description is empty or too long, or
        tokenizer files are missing, damaged or from another model.
    """
    flat = [prompt for descriptions in prompts for prompt in descriptions]
    if not flat or not all(prompts) or not all(prompt.strip() for prompt in flat):
        raise InputError(
            f"the prompts {[list(p) for p in prompts]} leave a class without words; "
            "give every class at least one description"
        )

    tokens, eos = token_ids(flat, snapshot_dir, config)
    return tokens, eos, _class_from_prompt([len(p) for p in prompts])


def token_ids(
    texts: Sequence[str], snapshot_dir: str | os.PathLike, config: TextConfig
) -> tuple[Int[np.ndarray, "K L"], Int[np.ndarray, "K"]]:
    """Returns the token ids of K texts and the index of each end token.

    Args:
      texts: prompts or captions.
      snapshot_dir: folder with the tokenizer's files.
      config: sizes of the text tower.

    Raises:
      InputError: a text is too long or no valid text, or tokenizer files are missing,
        damaged or from another model.
    """
    for text in texts:
        # Bytes of a command line that are no text come as lone surrogates.
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise InputError(
                f"the prompt {text!r} is not valid UTF-8 text; type it again"
            )

    tokenizer = _tokenizer(pathlib.Path(snapshot_dir))
    # Not verbose: its warning of long texts would come beside the error below.
    rows = tokenizer(list(texts), verbose=False)["input_ids"]
    for text, row in zip(texts, rows, strict=True):
        if len(row) > config.max_position_embeddings:
            raise InputError(
                f"the prompt {text!r} has {len(row)} tokens, but the CLIP text "
                f"tower reads {config.max_position_embeddings}; shorten it"
            )

        # An embedding table is indexed without a bounds check on the device.
        if max(row) >= config.vocab_size:
            raise InputError(
                f"{snapshot_dir}: token {max(row)} of the prompt {text!r} is outside "
                f"config.json's vocabulary of {config.vocab_size}; config.json and the "
                "tokenizer files are not from the same model"
            )

    tokens = np.full((len(rows), max(map(len, rows))), PADDING, np.int32)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row

    # The text tower is causal: tokens after the last end token have no effect.
    eos = eos_positions(tokens, config.eos_token_id).astype(np.int32)
    return tokens[:, : eos.max() + 1], eos


def _class_from_prompt(counts: Sequence[int]) -> Float[np.ndarray, "C K"]:
    """Returns the matrix that averages the prompts of each class, by their counts."""
    classes = np.repeat(np.arange(len(counts)), counts)
    member = classes[None, :] == np.arange(len(counts))[:, None]
    return (member / member.sum(axis=1, keepdims=True)).astype(np.float32)


def _tokenizer(path: pathlib.Path) -> Any:
    # Without the files, transformers 5 builds a tokenizer of three tokens.
    if not (path / "tokenizer.json").exists():
        for name in ("vocab.json", "merges.txt"):
            if not (path / name).exists():
                raise InputError(
                    f"{path / name}: no such file; a CLIP snapshot needs tokenizer.json "
                    "or both vocab.json and merges.txt"
                )

    # Not AutoTokenizer: a file may make it load any class, even run code. In version 5
    # both names are one CLIP tokenizer; in 4 only this one reads tokenizer.json.
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
