"""Prompts through transformers' tokenizer."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from wsvad_jax.clip.prompts import text_inputs, tokenize
from wsvad_jax.clip.random_snapshot import EOS_TOKEN_ID
from wsvad_jax.clip.towers import TextConfig, encode_text
from wsvad_jax.utils.errors import InputError

CLIP_TEXT = TextConfig(49408, 512, 2048, 12, 8, 77, 512)


@pytest.mark.parametrize("case", ["dsanet_ucf", "dsanet_xd", "vadclip_xd"])
def test_ids_are_those_of_the_released_code(shared, case):
    golden = np.load(shared(f"golden/{case}.npz"))
    folder = shared("clip_tokenizer")
    prompts = [[str(p)] for p in golden["prompts"]]
    tokens, eos, owner = tokenize(prompts, folder, CLIP_TEXT)
    L = tokens.shape[1]
    np.testing.assert_array_equal(tokens, golden["tokens"][:, :L])
    np.testing.assert_array_equal(eos, golden["tokens"].argmax(axis=1))
    assert eos.max() == L - 1
    np.testing.assert_array_equal(owner, np.eye(len(prompts)))


def test_both_rules_of_the_end_token(shared):
    folder = shared("clip_tokenizer")
    prompts = [["normal"], ["a car accident on the road"]]
    new = tokenize(prompts, folder, CLIP_TEXT)
    legacy = tokenize(prompts, folder, dataclasses.replace(CLIP_TEXT, eos_token_id=2))
    for a, b in zip(new, legacy, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bytes_and_descriptions(snapshot, snapshot_dir):
    prompts = [["Normal"], ["car", "  road   CAR ", "é"]]
    tokens, eos, owner = tokenize(prompts, snapshot_dir, snapshot.text)
    np.testing.assert_array_equal(eos, [7, 4, 8, 3])  # a token a byte
    np.testing.assert_array_equal(tokens[np.arange(4), eos], [EOS_TOKEN_ID] * 4)
    assert tokens.shape == (4, 9)
    third = np.float32(1 / 3)
    np.testing.assert_array_equal(owner, [[1, 0, 0, 0], [0, third, third, third]])
    # Case and spaces don't matter: "car" ends both.
    np.testing.assert_array_equal(tokens[1, 1:5], tokens[2, 5:9])


def test_text_inputs_are_an_argument_of_a_jitted_function(snapshot):
    text = text_inputs(snapshot, [["normal"], ["arson", "fire"]])
    assert sorted(text.params) == ["logit_scale", "text_model", "text_projection"]
    assert (text.tokens.dtype, text.eos.dtype) == (np.int32, np.int32)

    @jax.jit
    def classes(text):
        features = encode_text(text.params, text.config, text.tokens, text.eos)
        return text.class_from_prompt @ features

    assert classes(text).shape == (2, snapshot.text.projection_dim)
    assert jax.eval_shape(classes, text).shape == (2, snapshot.text.projection_dim)
    # A tree of shardings or shapes has the same structure.
    shapes = jax.tree.map(np.shape, text)
    assert shapes.tokens == text.tokens.shape


def test_bad_prompts_are_named(snapshot, snapshot_dir):
    for empty in ([["normal"], []], [["normal"], [" "]], []):
        with pytest.raises(InputError, match="at least one description"):
            tokenize(empty, snapshot_dir, snapshot.text)
    with pytest.raises(InputError, match="'a+' has 52 tokens, .* reads 40"):
        tokenize([["normal"], ["a" * 50]], snapshot_dir, snapshot.text)


def test_tokenizer_files_of_another_model(tmp_path, snapshot, snapshot_dir):
    small = dataclasses.replace(snapshot.text, vocab_size=100)
    with pytest.raises(InputError, match="token 513 .* vocabulary of 100"):
        tokenize([["normal"]], snapshot_dir, small)
    other = dataclasses.replace(snapshot.text, eos_token_id=7)
    with pytest.raises(InputError, match="eos_token_id 7 is not among the tokens"):
        tokenize([["normal"]], snapshot_dir, other)
    with pytest.raises(InputError, match=r"vocab\.json: no such file"):
        tokenize([["normal"]], tmp_path, snapshot.text)
    shutil.copy(snapshot_dir / "merges.txt", tmp_path)
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(InputError, match="can't read the tokenizer's files"):
        tokenize([["normal"]], tmp_path, snapshot.text)


def test_tokenizer_json_alone(tmp_path, snapshot, snapshot_dir):
    from transformers import CLIPTokenizerFast

    CLIPTokenizerFast.from_pretrained(snapshot_dir).save_pretrained(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink(missing_ok=True)
    prompts = [["road accident"], ["fire"]]
    got = tokenize(prompts, tmp_path, snapshot.text)
    want = tokenize(prompts, snapshot_dir, snapshot.text)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
