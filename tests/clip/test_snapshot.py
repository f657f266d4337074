"""Snapshots through every kind of file, and what is wrong with bad ones."""

import json
import pickle
import shutil

import jax
import numpy as np
import pytest

from wsvad_jax.clip import snapshot as clip_load
from wsvad_jax.clip import weight_names
from wsvad_jax.clip.snapshot import load_snapshot, save_snapshot
from wsvad_jax.clip.towers import encode_image
from wsvad_jax.utils.errors import InputError


def assert_same_tree(got, want):
    got, want = weight_names.flatten(got), weight_names.flatten(want)
    assert sorted(got) == sorted(want)
    for path, leaf in want.items():
        assert got[path].dtype == np.float32
        np.testing.assert_array_equal(got[path], leaf, err_msg=path)


@pytest.fixture
def folder(tmp_path, snapshot_dir):
    """A copy of the small snapshot to damage."""
    return shutil.copytree(snapshot_dir, tmp_path / "copy")


def write_torch(folder, snapshot) -> dict:
    """Replaces the weights by a pytorch_model.bin, as old transformers saved it."""
    torch = pytest.importorskip("torch", reason="pytorch_model.bin needs PyTorch")
    state = weight_names.flax_to_torch(weight_names.flatten(snapshot.params))
    state = {k: torch.tensor(np.array(v)) for k, v in state.items()}
    state["text_model.embeddings.position_ids"] = torch.arange(40)[None]
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "flax_model.msgpack").unlink()
    return state


def test_sizes_and_names_come_from_the_folder(snapshot, snapshot_dir):
    assert snapshot.name == "small"
    assert snapshot.path == snapshot_dir
    config = json.loads((snapshot_dir / "config.json").read_text())
    assert snapshot.text.num_hidden_layers == 2
    assert snapshot.vision.image_size == config["vision_config"]["image_size"]
    assert snapshot.vision.projection_dim == snapshot.text.projection_dim == 48


def test_three_kinds_of_file_give_the_same(folder, tmp_path, snapshot):
    text, vision, params = snapshot.text, snapshot.vision, snapshot.params
    flax = load_snapshot(save_snapshot(tmp_path / "flax", text, vision, params))
    directory = tmp_path / "torch"
    safe = load_snapshot(
        save_snapshot(directory, text, vision, params, weights="safetensors")
    )
    for other in (flax, safe):
        assert_same_tree(other.params, params)
        assert other.weights_hash == snapshot.weights_hash
        assert (other.text, other.vision) == (text, vision)
    write_torch(folder, snapshot)
    pickled = load_snapshot(folder)
    assert_same_tree(pickled.params, params)
    assert pickled.weights_hash == snapshot.weights_hash


def test_half_precision_files_are_read_as_float32(folder, snapshot):
    state = write_torch(folder, snapshot)
    import torch

    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    torch.save(half, folder / "pytorch_model.bin")
    leaf = load_snapshot(folder).params["text_projection"]["kernel"]
    want = snapshot.params["text_projection"]["kernel"].astype(np.float16)
    np.testing.assert_array_equal(leaf, want.astype(np.float32))


def test_transformers_reads_what_we_write(tmp_path, snapshot):
    torch = pytest.importorskip("torch", reason="transformers' model needs PyTorch")
    from transformers import CLIPModel

    save_snapshot(
        tmp_path, snapshot.text, snapshot.vision, snapshot.params, weights="safetensors"
    )
    model = CLIPModel.from_pretrained(tmp_path).eval()
    x = np.random.RandomState(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
        want = model.visual_projection(model.vision_model(images).pooler_output)
    encode = jax.jit(encode_image, static_argnums=1)
    got = encode(snapshot.params, snapshot.vision, x)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-5)


class Payload:
    """A pickle that makes a file when it is loaded by a careless reader."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_pickle_that_runs_code_is_refused(folder, tmp_path, snapshot, writer):
    state = write_torch(folder, snapshot)
    target = tmp_path / "ran"
    state["logit_scale"] = Payload(target)
    if writer == "pickle":
        content = pickle.dumps({"logit_scale": Payload(target)}, protocol=2)
        (folder / "pytorch_model.bin").write_bytes(content)
        pickle.loads(content)["logit_scale"].close()
        assert target.exists()
        target.unlink()
    else:
        import torch

        torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="not a whole file of plain tensors"):
        load_snapshot(folder)
    assert not target.exists()


@pytest.mark.parametrize("name", clip_load.WEIGHT_FILES)
@pytest.mark.parametrize("damage", ["truncated", "pointer", "empty"])
def test_damaged_weights_are_named(folder, snapshot, name, damage):
    if name == "pytorch_model.bin":
        write_torch(folder, snapshot)
    elif name == "model.safetensors":
        sizes = snapshot.text, snapshot.vision
        save_snapshot(folder, *sizes, snapshot.params, weights="safetensors")
        (folder / "flax_model.msgpack").unlink()
    content = (folder / name).read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    damaged = {"truncated": content[: len(content) // 2], "pointer": pointer}
    (folder / name).write_bytes(damaged.get(damage, b""))
    with pytest.raises(InputError, match=f"{name}: not a whole file"):
        load_snapshot(folder)


def test_every_wrong_tensor_is_listed_at_once(folder, snapshot):
    flat = dict(weight_names.flatten(snapshot.params))
    del flat["text_projection/kernel"]
    del flat["vision_model/pre_layrnorm/bias"]
    flat["text_model/extra/kernel"] = np.zeros(3, np.float32)
    flat["visual_projection/kernel"] = np.zeros((3, 4), np.float32)
    flat["logit_scale"] = np.zeros((), np.int32)
    save_snapshot(folder, snapshot.text, snapshot.vision, weight_names.unflatten(flat))
    with pytest.raises(InputError) as e:
        load_snapshot(folder)
    message = str(e.value)
    for part in (
        "flax_model.msgpack",
        "missing: text_projection/kernel, vision_model/pre_layrnorm/bias",
        "unknown: text_model/extra/kernel",
        "visual_projection/kernel float32 [3, 4] for visual_projection/kernel [64, 48]",
    ):
        assert part in message
    assert "\n" not in message


def test_torch_names_are_the_ones_listed(folder, snapshot):
    state = write_torch(folder, snapshot)
    import torch

    del state["text_model.final_layer_norm.weight"]
    state["text_model.head.weight"] = torch.zeros(2)
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(InputError) as e:
        load_snapshot(folder)
    assert "missing: text_model.final_layer_norm.weight" in str(e.value)
    assert "unknown: text_model.head.weight" in str(e.value)


@pytest.mark.parametrize("name", ["relu", ["gelu"]])
def test_an_activation_that_there_is_not(folder, name):
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["hidden_act"] = name
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config\.json: .*hidden_act"):
        load_snapshot(folder)


def test_what_a_folder_lacks(tmp_path, folder):
    with pytest.raises(InputError, match=r"config\.json: no such file"):
        load_snapshot(tmp_path)
    (folder / "flax_model.msgpack").unlink()
    with pytest.raises(InputError, match=r"no CLIP weights there; .*flax_model"):
        load_snapshot(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="model_type is 'bert'; expected a 'clip'"):
        load_snapshot(folder)
    bad = '{"model_type": "clip", "text_config": {"hidden_size": "wide"}}'
    (folder / "config.json").write_text(bad)
    with pytest.raises(InputError, match=r"config\.json: .*(hidden_size|str)"):
        load_snapshot(folder)
    config["vision_config"]["num_attention_heads"] = 5
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config\.json: .* heads"):
        load_snapshot(folder)


@pytest.mark.parametrize("second", ["model.safetensors", "pytorch_model.bin"])
def test_two_weight_files_that_differ(folder, snapshot, second):
    flat = {
        k: np.array(x * 1.01, np.float32)
        for k, x in weight_names.flatten(snapshot.params).items()
    }
    write_second(folder, snapshot, flat, second)
    with pytest.raises(
        InputError, match=f"flax_model.msgpack and {second} hold different weights"
    ):
        load_snapshot(folder)


@pytest.mark.parametrize("second", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_two_weight_files_that_agree(folder, snapshot, second, kind):
    flat = {
        k: np.array(x, kind) for k, x in weight_names.flatten(snapshot.params).items()
    }
    write_second(folder, snapshot, flat, second)
    assert load_snapshot(folder).weights_hash == snapshot.weights_hash
    # Half of a download is nothing that another program could take.
    (folder / second).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert load_snapshot(folder).weights_hash == snapshot.weights_hash


def write_second(folder, snapshot, flat, name) -> None:
    """Writes weights beside those that are there."""
    state = {
        k: np.array(x, order="C") for k, x in weight_names.flax_to_torch(flat).items()
    }
    if name.endswith(".bin"):
        torch = pytest.importorskip("torch", reason="PyTorch writes this file")

        torch.save({k: torch.tensor(x) for k, x in state.items()}, folder / name)
    else:
        import safetensors.numpy

        safetensors.numpy.save_file(state, folder / name)


def test_an_adapter_beside_the_weights(folder):
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(InputError, match="adapter_config.json .* merge it"):
        load_snapshot(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(folder, snapshot, value):
    flat = {k: np.array(x) for k, x in weight_names.flatten(snapshot.params).items()}
    flat["vision_model/pre_layrnorm/bias"][3] = value
    save_snapshot(folder, snapshot.text, snapshot.vision, weight_names.unflatten(flat))
    with pytest.raises(
        InputError,
        match=r"NaN or infinite, in vision_model/pre_layrnorm/bias \(1 of 64 values\)",
    ):
        load_snapshot(folder)


def test_a_folder_of_open_clip(folder):
    (folder / "config.json").unlink()
    (folder / "open_clip_config.json").write_text("{}")
    with pytest.raises(
        InputError, match="it looks like a model of open_clip; expected a CLIP model"
    ):
        load_snapshot(folder)


@pytest.mark.parametrize("name", ["./no/such", "/no/such", "~/no", "a/b/c"])
def test_missing_folder_is_not_looked_up(name):
    with pytest.raises(InputError, match="no such folder; pass a local folder"):
        load_snapshot(name)


def test_hub_names_offline(tmp_path, snapshot, snapshot_dir, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="some/clip: .* pass a local folder with"):
        load_snapshot("some/clip")
    # What was downloaded before is found without a network.
    cached = tmp_path / "models--some--clip"
    shutil.copytree(snapshot_dir, cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    found = load_snapshot("some/clip")
    assert found.name == "some/clip"
    assert found.weights_hash == snapshot.weights_hash


def test_openai_names_round_trip(snapshot):
    state = clip_load.flax_to_openai(snapshot.params)
    assert_same_tree(clip_load.openai_to_flax(state), snapshot.params)
    # Under a checkpoint's prefix, in half precision, with a scripted model's numbers.
    state = {f"clipmodel.{k}": v.astype(np.float16) for k, v in state.items()}
    state["clipmodel.context_length"] = np.array(40)
    text, vision = clip_load.openai_configs(state)
    assert (text, vision) == (snapshot.text, snapshot.vision)
    again = clip_load.flax_to_openai(clip_load.openai_to_flax(state))
    for name, x in again.items():
        np.testing.assert_array_equal(x, state[f"clipmodel.{name}"], err_msg=name)


def test_openai_layout(snapshot):
    state = clip_load.flax_to_openai(snapshot.params)
    blocks = snapshot.params["vision_model"]["encoder"]["layers"]["2"]
    packed = state["visual.transformer.resblocks.2.attn.in_proj_weight"]
    for i, name in enumerate(("q_proj", "k_proj", "v_proj")):
        third = packed[64 * i : 64 * (i + 1)]
        np.testing.assert_array_equal(third, blocks["self_attn"][name]["kernel"].T)
    # Projections are used as x @ p there, unlike every other matrix.
    np.testing.assert_array_equal(
        state["visual.proj"], snapshot.params["visual_projection"]["kernel"]
    )
    patches = snapshot.params["vision_model"]["embeddings"]["patch_embedding"]["kernel"]
    np.testing.assert_array_equal(
        state["visual.conv1.weight"][5, 1], patches[:, :, 1, 5]
    )
    assert state["text_projection"].shape == (128, 48)


@pytest.mark.parametrize("case", ["dsanet_ucf", "vadclip_xd"])
def test_released_checkpoints_openai_names(shared, case):
    shapes = json.loads(shared(f"golden/{case}_params.json").read_text())
    prefix = "clipmodel."
    shapes = {k[len(prefix) :]: v for k, v in shapes.items() if k.startswith(prefix)}
    state = {k: np.broadcast_to(np.float32(1), v) for k, v in shapes.items()}
    text, vision = clip_load.openai_configs(state)
    assert text.num_attention_heads == 8
    assert (text.num_hidden_layers, text.eos_token_id) == (4, 49407)
    assert (vision.image_size, vision.patch_size) == (32, 16)
    back = clip_load.flax_to_openai(clip_load.openai_to_flax(state))
    assert {k: list(v.shape) for k, v in back.items()} == shapes


def test_openai_state_dicts_that_do_not_fit(snapshot):
    state = clip_load.flax_to_openai(snapshot.params)
    state["visual.attnpool.k_proj.weight"] = state.pop("visual.ln_pre.bias")
    packed = state["transformer.resblocks.1.attn.in_proj_bias"]
    state["transformer.resblocks.1.attn.in_proj_bias"] = packed[:-1]
    with pytest.raises(InputError) as e:
        clip_load.openai_to_flax(state)
    for part in (
        "missing: visual.ln_pre.bias",
        "unknown: visual.attnpool.k_proj.weight",
        "transformer.resblocks.1.attn.in_proj_bias float32 [383]",
    ):
        assert part in str(e.value)
    del state["visual.conv1.weight"]
    with pytest.raises(InputError, match="visual.conv1.weight.* vision transformer"):
        clip_load.openai_to_flax(state)
