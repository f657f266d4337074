"""A CLIP snapshot with seeded random weights and a byte-level vocabulary.

It replaces a trained model if nothing can be downloaded: same files, same tokenizer
class, same code path. Random features are useful only if images differ in them. CLIP's
training initialisation (deviation 0.02 everywhere) doesn't give such features: the
outputs of any two images are parallel to four digits. These weights differ from it:

- Every kernel has deviation 1/√fan-in, so that no block shrinks its input.
- Patch embeddings have three times the deviation of a unit residual stream, position
  embeddings a tenth of it: content outweighs position.
- Features are read at the class token and the end token. Both, and the start token, are
  close to zero, and biases are zero: attention determines the features.
"""

import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from wsvad_jax.clip import weight_names
from wsvad_jax.clip.snapshot import save_snapshot
from wsvad_jax.clip.towers import TextConfig, VisionConfig
from wsvad_jax.clip.training_notes import RANDOM_WEIGHTS
from wsvad_jax.utils.errors import InputError

START, END = "<|startoftext|>", "<|endoftext|>"
VOCAB_SIZE = 2 * 256 + 2  # bytes, bytes that end a word, start and end token
EOS_TOKEN_ID = VOCAB_SIZE - 1

PATCH_GAIN = 3.0
POSITION_STD = 0.1
READ_TOKEN_STD = 0.02


def write_random_snapshot(
    directory: str | os.PathLike,
    *,
    text: TextConfig,
    vision: VisionConfig,
    seed: int,
) -> pathlib.Path:
    """Writes a complete snapshot; the same arguments give the same bytes.

    Args:
      directory: folder, created if missing.
      text: needs `vocab_size=VOCAB_SIZE` and `eos_token_id=EOS_TOKEN_ID`.
      vision: sizes of the image tower.
      seed: seed of the weights.

    Raises:
      InputError: the text tower's vocabulary is not the byte-level one.
    """
    if (text.vocab_size, text.eos_token_id) != (VOCAB_SIZE, EOS_TOKEN_ID):
        raise InputError(
            f"a random snapshot has {VOCAB_SIZE} tokens with end token {EOS_TOKEN_ID}, "
            f"but its text config says {text.vocab_size} and {text.eos_token_id}"
        )

    return save_snapshot(
        directory,
        text,
        vision,
        random_params(text, vision, seed),
        tokenizer=tokenizer_files(text.max_position_embeddings),
        training_note=RANDOM_WEIGHTS,
    )


def random_params(text: TextConfig, vision: VisionConfig, seed: int) -> dict:
    """Returns the whole parameter tree, random float32 numpy (see the module)."""
    state = np.random.RandomState(seed)
    flat = {
        path: _leaf(path, shape, state)
        for path, shape in weight_names.tree_shapes(text, vision).items()
    }

    # Features are read at the end token: it must carry little of its own.
    tokens = flat["text_model/embeddings/token_embedding/embedding"]
    tokens[[text.eos_token_id - 1, text.eos_token_id]] *= READ_TOKEN_STD
    return weight_names.unflatten(flat)


def _leaf(
    path: str, shape: tuple[int, ...], state: np.random.RandomState
) -> np.ndarray:
    if path == "logit_scale":
        return np.array(np.log(1 / 0.07), np.float32)
    if path.endswith("/scale"):
        return np.ones(shape, np.float32)
    if path.endswith("/bias"):
        return np.zeros(shape, np.float32)

    # All draws are in the order of the paths, so a seed determines every leaf.
    if path.endswith("/class_embedding"):
        std = READ_TOKEN_STD
    elif path.endswith("/position_embedding/embedding"):
        std = POSITION_STD
    elif path.endswith("/token_embedding/embedding"):
        std = 1.0
    else:  # kernels: the last axis is the output
        std = 1 / np.sqrt(np.prod(shape[:-1]))
        std *= PATCH_GAIN if path.endswith("/patch_embedding/kernel") else 1.0

    return (std * state.standard_normal(shape)).astype(np.float32)


def tokenizer_files(
    context: int, merges: Sequence[tuple[str, str]] = ()
) -> dict[str, str]:
    """Returns the files of CLIP's byte-level BPE tokenizer, by name.

    Args:
      context: largest number of tokens of a text.
      merges: pairs of symbols that become one token, most frequent first. Without any,
        every byte is a token.
    """
    # A word's last byte has an entry with "</w>", as in CLIP's vocabulary.
    characters = byte_characters()
    words = [*characters, *(c + "</w>" for c in characters)]
    words += [*(a + b for a, b in merges), START, END]

    special = {
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    config = special | {
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": context,
        "tokenizer_class": "CLIPTokenizer",
    }

    return {
        "vocab.json": json.dumps({word: i for i, word in enumerate(words)}),
        "merges.txt": "".join(["#version: 0.2\n", *(f"{a} {b}\n" for a, b in merges)]),
        "special_tokens_map.json": json.dumps(special),
        "tokenizer_config.json": json.dumps(config),
    }


def byte_characters() -> list[str]:
    """Returns a printable character for each byte, in the vocabulary's order.

    Printable bytes of Latin-1 stand for themselves; the others follow, as the
    characters from 256 on (byte-level BPE, Radford et al. 2019).
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = 256 - len(printable)
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(others)]
