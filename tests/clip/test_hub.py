"""Weights in shards and in half precision, and what is said where they can't be read."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from wsvad_jax.clip import hub, weight_names
from wsvad_jax.clip.snapshot import load_snapshot, save_snapshot
from wsvad_jax.utils.errors import InputError


def shards(folder, snapshot, kind="safetensors"):
    """Replaces a snapshot's weights by two shards and their index; returns the tensors."""
    state = weight_names.flax_to_torch(weight_names.flatten(snapshot.params))
    state = {k: np.array(x, order="C") for k, x in state.items()}
    keys, where = sorted(state), {}
    base = {"safetensors": "model", "bin": "pytorch_model"}[kind]
    for i in (0, 1):
        part = {k: state[k] for k in keys[i::2]}
        file = f"{base}-0000{i + 1}-of-00002.{kind}"
        if kind == "safetensors":
            import safetensors.numpy

            safetensors.numpy.save_file(part, folder / file)
        else:
            torch = pytest.importorskip("torch")
            torch.save({k: torch.from_numpy(x) for k, x in part.items()}, folder / file)
        where |= dict.fromkeys(part, file)
    index = folder / f"{base}.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return index, where


@pytest.fixture
def folder(tmp_path, snapshot):
    """The small snapshot without weights."""
    save_snapshot(tmp_path, snapshot.text, snapshot.vision, snapshot.params)
    (tmp_path / "flax_model.msgpack").unlink()
    return tmp_path


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_give_the_same_weights(folder, snapshot, kind):
    shards(folder, snapshot, kind)
    assert load_snapshot(folder).weights_hash == snapshot.weights_hash


def test_a_single_file_counts_before_shards(folder, snapshot):
    index, _ = shards(folder, snapshot)
    sizes = snapshot.text, snapshot.vision
    save_snapshot(folder, *sizes, snapshot.params, weights="safetensors")
    assert hub.find_weights(folder) == folder / "model.safetensors"
    assert load_snapshot(folder).weights_hash == snapshot.weights_hash
    (folder / "model.safetensors").unlink()
    assert hub.find_weights(folder) == index
    assert load_snapshot(folder).weights_hash == snapshot.weights_hash


def test_what_is_wrong_with_shards(folder, snapshot):
    index, where = shards(folder, snapshot)
    name = min(where)
    for shard in ("../x.safetensors", "/x", 5):
        index.write_text(json.dumps({"weight_map": where | {name: shard}}))
        with pytest.raises(InputError, match="index.json: the shard of .* is "):
            load_snapshot(folder)
    index.write_text(json.dumps({"weight_map": where | {"more": where[name]}}))
    with pytest.raises(InputError, match=f"{where[name]}: the shard lacks more"):
        load_snapshot(folder)
    index.write_text(json.dumps({"weight_map": where}))
    (folder / where[name]).unlink()
    with pytest.raises(InputError, match=f"{where[name]}: no such shard"):
        load_snapshot(folder)
    index.write_text("{}")
    with pytest.raises(InputError, match="expected an index of shards"):
        load_snapshot(folder)
    index.unlink()
    with pytest.raises(
        InputError, match="no CLIP weights .* model-00002-of-00002.safet"
    ):
        load_snapshot(folder)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_safetensors(folder, snapshot, dtype):
    torch = pytest.importorskip("torch")
    import safetensors.torch

    state = weight_names.flax_to_torch(weight_names.flatten(snapshot.params))
    half = {
        k: torch.from_numpy(np.array(x, order="C")).to(getattr(torch, dtype))
        for k, x in state.items()
    }
    safetensors.torch.save_file(half, folder / "model.safetensors")
    found = load_snapshot(folder).params["text_projection"]["kernel"]
    wanted = half["text_projection.weight"].float().numpy().T
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted)


def test_a_disk_s_error_is_no_damage(folder, snapshot, monkeypatch):
    shards(folder, snapshot)
    (folder / "flax_model.msgpack").mkdir()  # reading it is an error of the system
    with pytest.raises(InputError, match=r"msgpack: can't be read \(Is a directory\)"):
        load_snapshot(folder)
    (folder / "flax_model.msgpack").rmdir()
    (folder / "flax_model.msgpack").symlink_to(folder / "blob")
    with pytest.raises(InputError, match="a link to a file that is missing"):
        load_snapshot(folder)


def test_nothing_is_said_about_pytorch():
    code = """
import importlib.util, os
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else find(name, *rest)
before = dict(os.environ)
from wsvad_jax.clip import hub
assert hub.transformers().CLIPConfig
assert dict(os.environ) == before
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != hub.QUIET},
    )
    assert run.returncode == 0, run.stderr
    assert "PyTorch" not in run.stderr


def test_the_user_s_own_setting_stays(monkeypatch):
    monkeypatch.setenv(hub.QUIET, "")
    hub.transformers()
    assert os.environ[hub.QUIET] == ""


def test_a_hub_that_never_answers(monkeypatch, tmp_path):
    """The sentence comes although the server keeps the connection open."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "HUB_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        with pytest.raises(
            InputError, match="the Hugging Face hub did not give a model"
        ):
            hub.download("nobody/nothing")
