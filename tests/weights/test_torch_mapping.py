"""State dicts to variables and back, and what is said about those that don't fit."""

import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsvad_jax.models import clip_tsa, mil_ranking
from wsvad_jax.models.lgt_adapter import LGTAdapter
from wsvad_jax.utils.errors import InputError
from wsvad_jax.weights import torch_mapping

GOLDEN = Path(__file__).parent.parent / "parity" / "golden"
FILES = {
    "dsanet_ucf": "dsanet",
    "dsanet_xd": "dsanet",
    "vadclip_ucf": "vadclip",
    "vadclip_xd": "vadclip",
    "clip_tsa": "clip_tsa",
    "clip_tsa_i3d": "clip_tsa",
}


@pytest.fixture(scope="module")
def released():
    """State dicts with the names and shapes of released ones, made once."""
    made = {}

    def fill(name, shape):
        key = zlib.crc32(name.replace("clip_adapter.clipmodel.", "clipmodel.").encode())
        if "clipmodel." in name:  # large, and moved rather than changed
            return np.broadcast_to(np.float32(key % 9973), shape)
        numbers = np.arange(np.prod(shape, dtype=int)) + key % 9973
        return numbers.astype(np.float32).reshape(shape)

    def get(name):
        if name not in made:
            shapes = json.loads((GOLDEN / f"{name}_params.json").read_text())
            made[name] = {k: fill(k, shape) for k, shape in shapes.items()}
        return dict(made[name])

    return get


def mil_state(names=("fc1", "fc2", "fc3"), D=512):
    r = np.random.RandomState(0)
    state = {}
    for name, (out, fan_in) in zip(names, ((512, D), (32, 512), (1, 32)), strict=True):
        state[f"{name}.weight"] = r.standard_normal((out, fan_in)).astype(np.float32)
        state[f"{name}.bias"] = r.standard_normal(out).astype(np.float32)
    return state


def shapes(model, D):
    """The variables that a model of features alone has for width D."""
    keys = ("params", "dropout", "noise")
    rngs = {name: jax.random.key(0) for name in keys}
    x = jnp.zeros((2, 1, 32, D))
    return jax.eval_shape(lambda: model.init(rngs, x, jnp.full(2, 32), train=True))


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)


@pytest.mark.parametrize("name", FILES)
def test_round_trip_loses_nothing(name, released):
    state = released(name)
    back = torch_mapping.export_state(
        FILES[name], *torch_mapping.import_state(FILES[name], state)
    )
    assert back.keys() == state.keys()
    assert all(same(back[k], state[k]) for k in state)


def test_round_trip_of_mil_ranking_accepts_numbered_layers():
    named, numbered = mil_state(), mil_state(("0", "3", "6"))
    variables, clip = torch_mapping.import_state("mil_ranking", numbered)
    back = torch_mapping.export_state("mil_ranking", variables)
    assert clip == {}
    assert back.keys() == named.keys()
    assert all(same(back[k], named[k]) for k in named)


@pytest.mark.parametrize("name", FILES)
def test_every_tensor_has_exactly_one_rule(name, released):
    table = torch_mapping.rules(FILES[name], released(name))
    for tensor in released(name):
        if not tensor.startswith(
            torch_mapping.released_checkpoint(FILES[name]).clip_prefixes
        ):
            paths = [rule.path(tensor) for rule in table]
            assert sum(path is not None for path in paths) == 1, tensor


@pytest.mark.parametrize("name, D", [("clip_tsa", 512), ("clip_tsa_i3d", 2048)])
def test_variables_are_the_models(name, D, released):
    want = shapes(clip_tsa.Model(), D)
    variables, _ = torch_mapping.import_state("clip_tsa", released(name), want)
    unused = variables.pop("unused")
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, want)
    assert "num_batches_tracked" in unused["Aggregate_conv_1_2"]
    assert ("mlp_fc1" in unused) == (D == 512)


def test_variables_of_mil_ranking_are_the_models():
    want = shapes(mil_ranking.Model(), 64)
    variables, _ = torch_mapping.import_state("mil_ranking", mil_state(D=64), want)
    assert jax.tree.map(np.shape, variables["params"]) == jax.tree.map(
        np.shape, want["params"]
    )


def test_unused_tensors_are_made_up_for_a_model_of_our_own(released):
    state = released("clip_tsa")
    variables, _ = torch_mapping.import_state("clip_tsa", state)
    del variables["unused"]
    back = torch_mapping.export_state("clip_tsa", variables)
    assert {k: x.shape for k, x in back.items()} == {
        k: x.shape for k, x in state.items()
    }
    assert back["Aggregate.conv_1.2.num_batches_tracked"].dtype == np.int64


def test_half_precision_is_kept():
    state = {k: x.astype(np.float16) for k, x in mil_state().items()}
    variables, _ = torch_mapping.import_state("mil_ranking", state)
    back = torch_mapping.export_state("mil_ranking", variables)
    assert all(same(back[k], state[k]) for k in state)


def test_packed_attention_and_convolution_match_pytorch():
    """The layouts behind the rules, computed by PyTorch's own modules."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    conv = torch.nn.Conv1d(8, 4, 5, padding=2)
    x = torch.randn(1, 6, 8)
    theirs = {
        f"temporal.resblocks.0.attn.{k}": p for k, p in attention.named_parameters()
    }
    theirs |= {f"gc1.residual.{k}": p for k, p in conv.named_parameters()}
    state = {k: p.detach().numpy() for k, p in theirs.items()}
    params = torch_mapping.import_state("vadclip", state)[0]["params"]["encoder"]
    block = params["temporal_resblocks_0"]
    y = jnp.asarray(x.numpy()) @ block["attn_in_proj"]["kernel"]
    q, k, v = jnp.moveaxis(y.reshape(1, 6, 3, 2, 4), 2, 0)
    p = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / 2)
    y = jnp.einsum("bhqk,bkhd->bqhd", p, v).reshape(1, 6, 8)
    y = y @ block["attn_out_proj"]["kernel"]
    with torch.no_grad():
        want = attention(x, x, x, need_weights=False)[0]
        want_conv = conv(x.mT).mT
    np.testing.assert_allclose(y, want, atol=1e-6)
    y = jax.lax.conv_general_dilated(
        jnp.asarray(x.numpy()),
        params["gc1"]["residual"]["kernel"],
        (1,),
        "SAME",
        dimension_numbers=("NWC", "WIO", "NWC"),
    )
    np.testing.assert_allclose(y, want_conv - conv.bias.detach(), atol=1e-6)


def test_encoder_takes_the_imported_tree(released):
    state = released("vadclip_ucf")
    params = torch_mapping.import_state("vadclip", state)[0]["params"]["encoder"]
    encoder = LGTAdapter(layers=2, window=8)
    x, length = jnp.zeros((1, 256, 512)), jnp.full(1, 256)
    where = jnp.ones((1, 256), bool)
    want = jax.eval_shape(encoder.init, jax.random.key(0), x, length, where)["params"]
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, want)


def test_all_faults_are_listed_at_once(released):
    want = shapes(clip_tsa.Model(), 512)
    state = released("clip_tsa")
    state["fc1.weight"] = state["fc1.weight"].T
    state["fc4.weight"] = state.pop("fc2.weight")
    del state["Aggregate.conv_2.2.running_var"]
    with pytest.raises(InputError) as e:
        torch_mapping.import_state("clip_tsa", state, want, "model.pth")
    assert str(e.value).startswith("model.pth ")
    assert "unknown fc4.weight [32, 128]" in str(e.value)
    assert "misshapen fc1.weight [512, 128], expected [128, 512]" in str(e.value)
    for missing in ("fc2.weight [32, 128]", "Aggregate.conv_2.2.running_var [128]"):
        assert missing in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "name, model, title",
    [
        ("vadclip_ucf", "dsanet", "VadCLIP"),
        ("dsanet_xd", "vadclip", "DSANet"),
        ("dsanet_xd", "clip_tsa", "DSANet"),
        ("clip_tsa_i3d", "mil_ranking", "CLIP-TSA"),
    ],
)
def test_another_models_file_is_named(name, model, title, released):
    with pytest.raises(InputError, match=f"this is a {title} checkpoint"):
        torch_mapping.import_state(model, released(name))


def test_another_models_file_is_named_mil_ranking():
    with pytest.raises(InputError, match="this is a MIL ranking checkpoint"):
        torch_mapping.import_state("vadclip", mil_state())


@pytest.mark.parametrize("file, D", [("clip_tsa", 2048), ("clip_tsa_i3d", 512)])
def test_features_of_another_width(file, D, released):
    with pytest.raises(InputError, match=r"mlp\.fc1\.weight \[1024, "):
        torch_mapping.import_state(
            "clip_tsa", released(file), shapes(clip_tsa.Model(), D)
        )


def test_dsanets_two_copies_of_clip_must_agree(released):
    state = released("dsanet_xd")
    name = "clip_adapter.clipmodel.ln_final.bias"
    state[name] = state[name] + 1
    del state["clip_adapter.clipmodel.text_projection"]
    with pytest.raises(InputError) as e:
        torch_mapping.import_state("dsanet", state)
    assert f"unequal {name} and clipmodel.ln_final.bias" in str(e.value)
    assert "missing clip_adapter.clipmodel.text_projection" in str(e.value)


def test_dsanet_without_its_adapter_starts_from_vadclips_prompts(released):
    state = {
        k: x
        for k, x in released("vadclip_xd").items()
        if not k.startswith("clipmodel.")
    }
    variables, _ = torch_mapping.import_state("vadclip", state)
    want = dict(variables["params"])
    want["clip_adapter"] = want.pop("prompt_learner")
    found, _ = torch_mapping.import_state("dsanet", state, {"params": want})
    assert same(
        found["params"]["clip_adapter"]["text_prompt_embeddings"],
        state["text_prompt_embeddings.weight"],
    )
    assert torch_mapping.export_state("dsanet", found).keys() == state.keys()


def test_export_of_another_models_variables(released):
    variables, _ = torch_mapping.import_state("clip_tsa", released("clip_tsa"))
    with pytest.raises(InputError, match="not one of VadCLIP, which has no .*fc1"):
        torch_mapping.export_state("vadclip", variables)
