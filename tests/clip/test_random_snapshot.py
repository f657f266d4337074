"""The random snapshot: the same every time, and features that tell images apart."""

import dataclasses

import jax
import numpy as np
import pytest

from wsvad_jax.clip.random_snapshot import write_random_snapshot
from wsvad_jax.clip.towers import encode_image, encode_text
from wsvad_jax.utils.errors import InputError


def test_same_arguments_give_the_same_bytes(tmp_path, snapshot, snapshot_dir):
    sizes = {"text": snapshot.text, "vision": snapshot.vision}
    again = write_random_snapshot(tmp_path / "again", **sizes, seed=0)
    written = sorted(p.name for p in snapshot_dir.iterdir())
    assert written == sorted(p.name for p in again.iterdir())
    for name in written:
        assert (again / name).read_bytes() == (snapshot_dir / name).read_bytes(), name
    other = write_random_snapshot(tmp_path / "other", **sizes, seed=1)
    name = "flax_model.msgpack"
    assert (other / name).read_bytes() != (again / name).read_bytes()


def test_images_differ_more_than_their_noise(snapshot):
    r = np.random.RandomState(0)
    # Smooth pictures, as frames are: 4 x 4 patches of one colour each.
    pictures = np.kron(r.uniform(-1.5, 1.5, (16, 4, 4, 3)), np.ones((1, 8, 8, 1)))
    noisy = pictures + 0.1 * r.standard_normal(pictures.shape)
    pixels = np.concatenate([pictures, noisy]).astype(np.float32)
    encode = jax.jit(encode_image, static_argnums=1)
    features = encode(snapshot.params, snapshot.vision, pixels)
    a, b = np.split(np.asarray(features, np.float64), 2)
    noise = np.linalg.norm(a - b, axis=1).mean()
    between = np.linalg.norm(a - np.roll(a, 1, axis=0), axis=1).mean()
    assert between > 3 * noise
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    assert (a @ a.T)[~np.eye(16, dtype=bool)].mean() < 0.95


def test_prompts_differ(snapshot):
    from wsvad_jax.clip.prompts import text_inputs

    words = ["normal", "fighting", "explosion", "arson", "road accident"]
    text = text_inputs(snapshot, [[word] for word in words])
    encode = jax.jit(encode_text, static_argnums=1)
    features = encode(text.params, text.config, text.tokens, text.eos)
    x = np.asarray(features, np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    assert (x @ x.T)[~np.eye(5, dtype=bool)].max() < 0.9


def test_other_vocabularies_are_refused(tmp_path, snapshot):
    text = dataclasses.replace(snapshot.text, vocab_size=49408)
    with pytest.raises(InputError, match="514 tokens with end token 513"):
        write_random_snapshot(tmp_path, text=text, vision=snapshot.vision, seed=0)
