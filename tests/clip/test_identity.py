"""A tower's identity covers what changes its features, and is that of the weights else."""

import dataclasses
import json
import shutil

import pytest

from wsvad_jax.clip import identity, weight_names
from wsvad_jax.clip.snapshot import load_snapshot, save_snapshot

VISION = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "num_attention_heads": 2,
}


def encoder_hash(snapshot, resize="clip"):
    return snapshot.encoder(resize)[1]


def changed(folder, tower, **values):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config[tower] |= values
    path.write_text(json.dumps(config))
    return load_snapshot(folder)


@pytest.fixture
def folder(tmp_path, snapshot_dir):
    """A copy of the small snapshot to change."""
    return shutil.copytree(snapshot_dir, tmp_path / "copy")


def test_used_as_openai_s_a_model_is_its_weights(snapshot):
    for resize in ("stretch", "clip"):
        name, found, _ = snapshot.encoder(resize)
        assert found == snapshot.text_hash == snapshot.weights_hash
        assert name == f"small@{snapshot.weights_hash[:12]}"
    assert snapshot.image_settings["activation"] == "quick_gelu"
    assert snapshot.image_settings["mean"][0] == 0.48145466
    json.dumps([snapshot.image_settings, snapshot.text_settings])


@pytest.mark.parametrize(("key", "value"), VISION.items())
def test_another_use_of_the_weights_is_another_encoder(folder, snapshot, key, value):
    other = changed(folder, "vision_config", **{key: value})
    assert other.weights_hash == snapshot.weights_hash
    assert encoder_hash(other) != encoder_hash(snapshot)
    assert other.text_hash == snapshot.text_hash
    assert len(other.image_settings[identity.UNLIKE]) == 1
    own = 4 if key == "num_attention_heads" else value  # the text tower has 2
    assert changed(folder, "text_config", **{key: own}).text_hash != snapshot.text_hash


def test_another_preprocessing_is_another_encoder(folder, snapshot):
    path, plain = folder / "preprocessor_config.json", encoder_hash(snapshot)
    values = json.loads(path.read_text())
    whole, stretched = {plain}, {plain}
    for change in ({"image_mean": [0.5] * 3}, {"image_std": [0.5] * 3},
                   {"rescale_factor": 1}, {"resample": 2}, {"size": 40}):  # fmt: skip
        path.write_text(json.dumps(values | change))
        found = load_snapshot(folder)
        assert found.text_hash == snapshot.text_hash
        whole.add(encoder_hash(found))
        stretched.add(encoder_hash(found, "stretch"))
    # The released geometry replaces the model's own size and filter.
    assert len(whole) == 6 and len(stretched) == 4
    path.unlink()
    assert encoder_hash(load_snapshot(folder)) == plain
    assert "no preprocessor_config.json" in " ".join(load_snapshot(folder).remarks)


def test_wide_heads_of_published_models_are_theirs(snapshot):
    wide = dataclasses.replace(
        snapshot.vision, hidden_size=1280, num_attention_heads=16
    )
    found = identity.image_settings("ab", wide, snapshot.preprocessing)
    assert found[identity.UNLIKE] == []


def test_a_tower_that_was_never_trained_is_known(tmp_path, snapshot):
    assert snapshot.image_settings[identity.RANDOM]
    assert snapshot.text_settings[identity.RANDOM]
    assert "random weights" in snapshot.clip_note
    flat = {
        path: x + 0.01 if "vision_model/encoder/layers/1/layer_norm1" in path else x
        for path, x in weight_names.flatten(snapshot.params).items()
    }
    save_snapshot(
        tmp_path, snapshot.text, snapshot.vision, weight_names.unflatten(flat)
    )
    trained = load_snapshot(tmp_path)
    assert identity.RANDOM not in trained.image_settings and not trained.training_note
    assert trained.text_settings[identity.RANDOM]
    # The mark is no part of the identity.
    assert encoder_hash(trained) == trained.weights_hash
