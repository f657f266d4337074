"""A tower's identity covers what changes its features, and is that of the weights else."""

import dataclasses
import json
import shutil

import pytest

from wsvad_jax.clip import identity, names
from wsvad_jax.clip.load import load, save_snapshot

VISION = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "num_attention_heads": 2,
}


def changed(folder, tower, **values):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config[tower] |= values
    path.write_text(json.dumps(config))
    return load(folder)


@pytest.fixture
def folder(tmp_path, snapshot_dir):
    """A copy of the small snapshot to change."""
    return shutil.copytree(snapshot_dir, tmp_path / "copy")


def test_used_as_openai_s_a_model_is_its_weights(snapshot):
    assert snapshot.encoder_hash == snapshot.text_hash == snapshot.weights_hash
    assert snapshot.encoder == f"small@{snapshot.weights_hash[:12]}"
    assert snapshot.image_settings["activation"] == "quick_gelu"
    assert snapshot.image_settings["mean"][0] == 0.48145466
    json.dumps([snapshot.image_settings, snapshot.text_settings])


@pytest.mark.parametrize(("key", "value"), VISION.items())
def test_another_use_of_the_weights_is_another_encoder(folder, snapshot, key, value):
    other = changed(folder, "vision_config", **{key: value})
    assert other.weights_hash == snapshot.weights_hash
    assert other.encoder_hash != snapshot.encoder_hash
    assert other.text_hash == snapshot.text_hash
    assert len(other.image_settings[identity.UNLIKE]) == 1
    own = 4 if key == "num_attention_heads" else value  # the text tower has 2
    assert changed(folder, "text_config", **{key: own}).text_hash != snapshot.text_hash


def test_another_preprocessing_is_another_encoder(folder, snapshot):
    path, hashes = folder / "preprocessor_config.json", {snapshot.encoder_hash}
    plain = json.loads(path.read_text())
    for change in ({"image_mean": [0.5] * 3}, {"image_std": [0.5] * 3},
                   {"resample": 2}, {"size": 40}, {"rescale_factor": 1}):  # fmt: skip
        path.write_text(json.dumps(plain | change))
        found = load(folder)
        assert found.text_hash == snapshot.text_hash
        hashes.add(found.encoder_hash)
    assert len(hashes) == 6
    path.unlink()
    assert load(folder).encoder_hash == snapshot.encoder_hash
    assert "no preprocessor_config.json" in " ".join(load(folder).remarks)


def test_wide_heads_of_published_models_are_theirs(snapshot):
    wide = dataclasses.replace(
        snapshot.vision, hidden_size=1280, num_attention_heads=16
    )
    found = identity.image_settings("ab", wide, snapshot.preprocessing)
    assert found[identity.UNLIKE] == []


def test_a_tower_that_was_never_trained_is_known(tmp_path, snapshot):
    assert snapshot.image_settings[identity.RANDOM]
    assert snapshot.text_settings[identity.RANDOM]
    assert "random weights" in snapshot.remarks[0]
    flat = {
        path: x + 0.01 if "vision_model/encoder/layers/1/layer_norm1" in path else x
        for path, x in names.flatten(snapshot.params).items()
    }
    save_snapshot(tmp_path, snapshot.text, snapshot.vision, names.unflatten(flat))
    trained = load(tmp_path)
    assert identity.RANDOM not in trained.image_settings and not trained.remarks
    assert trained.text_settings[identity.RANDOM]
    # The mark is no part of the identity.
    assert trained.encoder_hash == trained.weights_hash
