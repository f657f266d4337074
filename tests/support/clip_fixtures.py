"""A small CLIP snapshot of random weights."""

import pathlib

import pytest

from wsvad_jax.clip.random_snapshot import (
    EOS_TOKEN_ID,
    VOCAB_SIZE,
    write_random_snapshot,
)
from wsvad_jax.clip.snapshot import Snapshot, load_snapshot
from wsvad_jax.clip.towers import TextConfig, VisionConfig

# Widths of 64 a head, so that OpenAI's names can tell the number of heads.
TEXT = TextConfig(
    vocab_size=VOCAB_SIZE,
    hidden_size=128,
    intermediate_size=192,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=40,
    projection_dim=48,
    eos_token_id=EOS_TOKEN_ID,
)
VISION = VisionConfig(
    image_size=32,
    patch_size=8,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=1,
    projection_dim=48,
)


@pytest.fixture(scope="session")
def snapshot_dir(tmp_path_factory) -> pathlib.Path:
    """A folder that tests only read."""
    directory = tmp_path_factory.mktemp("clip") / "small"
    return write_random_snapshot(directory, text=TEXT, vision=VISION, seed=0)


@pytest.fixture(scope="session")
def snapshot(snapshot_dir) -> Snapshot:
    return load_snapshot(snapshot_dir)
