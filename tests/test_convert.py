"""Released checkpoints through files: both directions, and what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from released import SMALL, D, T, equal, save

from wsvad_jax.clip import snapshot
from wsvad_jax.convert import main
from wsvad_jax.experiment.config import load_config
from wsvad_jax.utils.errors import InputError
from wsvad_jax.weights import convert
from wsvad_jax.weights.model_folder import load_params
from wsvad_jax.weights.torch_architecture import check_sizes, expected_variables
from wsvad_jax.weights.torch_files import read_state, write_state

torch = pytest.importorskip("torch")

RECIPE = """
from ml_collections import ConfigDict

def get_config(dataset="toy"):
    return ConfigDict(dict(
        model_name={model_name!r},
        protocol="clean",
        clip="auto",
        model={model!r},
        data=dict(name=dataset, length={length}),
    ))
"""


@pytest.fixture
def recipe(tmp_path):
    """Writes a small recipe and returns its path."""

    def write(model_name, length=T, **model):
        path = tmp_path / f"{model_name}.py"
        model = {**SMALL[model_name], **model}
        path.write_text(
            RECIPE.format(model_name=model_name, model=model, length=length)
        )
        return str(path)

    return write


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("name", SMALL)
def test_there_and_back(name, ending, recipe, released, tmp_path, capsys):
    state, config = released(name), recipe(name)
    first, second = tmp_path / f"released.{ending}", tmp_path / f"ours.{ending}"
    write_state(first, state)
    output = str(tmp_path / "model")
    assert main([f"--config={config}", f"--torch={first}", f"--output={output}"]) == 0
    back = [f"--config={config}", f"--checkpoint={output}", f"--to_torch={second}"]
    assert main(back) == 0
    equal(read_state(second), state)
    said = capsys.readouterr().out
    assert ("has no tokenizer yet" in said) == (name in ("vadclip", "dsanet"))


def test_the_folder_is_a_model_of_the_recipe(recipe, released, tmp_path):
    config = load_config([f"--config={recipe('dsanet')}:ucf"])
    state = released("dsanet")
    output = convert.import_file(
        config, save(tmp_path / "m.pth", state), tmp_path / "m"
    )
    params, batch_stats, meta = load_params(output)
    want = expected_variables(config, state)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, want["params"])
    assert batch_stats == {}
    assert (meta["model"], meta["dataset"], meta["checkpoint"]) == (
        "dsanet",
        "ucf",
        "m.pth",
    )
    assert meta["config"]["model"]["prototypes"] == 4
    assert meta["card"]["classes"][8]["prompts"] == ["roadaccidents"]
    np.testing.assert_array_equal(
        params["encoder"]["linear"]["kernel"], state["linear.weight"].T
    )


def test_clip_comes_out_of_the_file_and_takes_a_tokenizer(
    recipe, released, openai_clip, tmp_path
):
    config = load_config([f"--config={recipe('vadclip')}"])
    path = save(tmp_path / "m.pth", released("vadclip"))
    output = convert.import_file(config, path, tmp_path / "m", str(openai_clip))
    found, want = (
        snapshot.load_snapshot(output / "clip"),
        snapshot.load_snapshot(openai_clip),
    )
    assert found.weights_hash == want.weights_hash
    assert (found.text, found.vision) == (want.text, want.vision)
    vocabulary = (output / "clip" / "vocab.json").read_bytes()
    assert vocabulary == (openai_clip / "vocab.json").read_bytes()


def test_half_precision_comes_back_as_it_was(recipe, released, tmp_path):
    state = released("vadclip")
    for name in ("clipmodel.text_projection", "linear.weight"):
        state[name] = state[name].astype(np.float16)
    config = load_config([f"--config={recipe('vadclip')}"])
    output = convert.import_file(
        config, save(tmp_path / "m.pth", state), tmp_path / "m"
    )
    assert load_params(output)[0]["encoder"]["linear"]["kernel"].dtype == np.float32
    back = convert.export_file(config, output, tmp_path / "back.pth")
    equal(read_state(back), state)


def test_another_models_file(recipe, released, tmp_path):
    config = load_config([f"--config={recipe('dsanet')}"])
    path = save(tmp_path / "m.pth", released("vadclip"))
    with pytest.raises(InputError, match=r"m\.pth: this is a VadCLIP checkpoint"):
        convert.import_file(config, path, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_recipe_of_no_model(recipe, released, tmp_path):
    config = load_config([f"--config={recipe('vadclip')}"])
    config.model_name = "rtfm"
    path = save(tmp_path / "m.pth", released("vadclip"))
    with pytest.raises(InputError, match="model_name is 'rtfm'; the models are"):
        convert.import_file(config, path, tmp_path / "m")


def test_another_datasets_file(recipe, released, tmp_path):
    config = load_config([f"--config={recipe('vadclip', visual_layers=1)}:xd"])
    path = save(tmp_path / "m.pth", released("vadclip"))
    with pytest.raises(InputError, match="2 temporal blocks.*is 1.*UCF-Crime") as e:
        convert.import_file(config, path, tmp_path / "m")
    assert "--config vadclip:ucf" in str(e.value)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"visual_layers": 3}, "2 temporal blocks, but config.model.visual_layers is 3"),
        ({"text_adapt_until": 3}, "1 text adapters, but config.model.text_adapt_until is 3"),
        ({"prototypes": 16}, "4 prototypes, but config.model.prototypes is 16"),
        ({"decoder_layers": 8}, "2 decoder blocks, but config.model.decoder_layers is 8"),
        ({"decoder_heads": 4}, "8 decoder heads, but config.model.decoder_heads is 4"),
        ({"sgnm": False}, "its SG-NM is there, but config.model.sgnm is False"),
        ({"adapter": False}, "its text adapter is there, but config.model.adapter is False"),
        ({"length": 32}, "windows are 16 snippets, but config.data.length is 32"),
        ({"length": 0, "attn_window": 5}, "16 snippets, which config.model.attn_window 5"),
    ],
)  # fmt: skip
def test_sizes_against_the_recipe(change, says, recipe, released, tmp_path):
    config = load_config([f"--config={recipe('dsanet', **change)}"])
    with pytest.raises(InputError, match=says) as e:
        check_sizes(config, released("dsanet"), "m.pth")
    assert str(e.value).startswith("m.pth ") and "\n" not in str(e.value)


def test_every_difference_is_named(recipe, released):
    recipe = recipe("dsanet", visual_layers=1, prototypes=5, length=24)
    config = load_config([f"--config={recipe}"])
    with pytest.raises(InputError, match="temporal blocks.*prototypes.*windows are 16"):
        check_sizes(config, released("dsanet"), "m.pth")


def test_faulty_tensors_are_listed_with_the_file(recipe, released, tmp_path):
    state = released("vadclip")
    state["extra"] = np.zeros(3, np.float32)
    state["linear.bias"] = np.zeros(63, np.float32)
    del state["gc2.weight"]
    config = load_config([f"--config={recipe('vadclip')}"])
    with pytest.raises(InputError) as e:
        convert.import_file(config, save(tmp_path / "m.pth", state), tmp_path / "m")
    for part in (
        "m.pth doesn't fit VadCLIP",
        "unknown extra [3]",
        "missing gc2.weight [32, 32]",
        "misshapen linear.bias [63], expected [64]",
    ):
        assert part in str(e.value)
    assert not (tmp_path / "m").exists()


def test_faulty_clip_tensors_are_listed_with_the_file(recipe, released, tmp_path):
    state = released("vadclip")
    del state["clipmodel.ln_final.bias"]
    config = load_config([f"--config={recipe('vadclip')}"])
    with pytest.raises(InputError, match=r"m\.pth: .*ln_final\.bias"):
        convert.import_file(config, save(tmp_path / "m.pth", state), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_the_way_back_needs_clip(recipe, released, openai_clip, tmp_path):
    state = released("vadclip")
    stripped = {k: x for k, x in state.items() if not k.startswith("clipmodel.")}
    config = load_config([f"--config={recipe('vadclip')}"])
    output = convert.import_file(
        config, save(tmp_path / "m.pth", stripped), tmp_path / "m"
    )
    with pytest.raises(InputError, match="no CLIP model.*--clip"):
        convert.export_file(config, output, tmp_path / "back.pth")
    convert.export_file(config, output, tmp_path / "back.pth", str(openai_clip))
    equal(read_state(tmp_path / "back.pth"), state)


def test_the_way_back_checks_the_recipe(recipe, released, tmp_path):
    config = load_config([f"--config={recipe('mil_ranking')}"])
    path = save(tmp_path / "m.pth", released("mil_ranking"))
    output = convert.import_file(config, path, tmp_path / "run" / "model")
    other = load_config([f"--config={recipe('clip_tsa')}"])
    with pytest.raises(InputError, match="holds a mil_ranking model.*clip_tsa"):
        convert.export_file(other, output, tmp_path / "back.pth")
    # A workdir of training has its model in a folder of that name.
    convert.export_file(config, tmp_path / "run", tmp_path / "back.pth")
    equal(read_state(tmp_path / "back.pth"), released("mil_ranking"))


def test_converted_again_nothing_old_stays(recipe, released, tmp_path):
    vadclip = load_config([f"--config={recipe('vadclip')}"])
    path = save(tmp_path / "v.pth", released("vadclip"))
    output = convert.import_file(vadclip, path, tmp_path / "m")
    assert (output / "clip").is_dir()
    mil = load_config([f"--config={recipe('mil_ranking')}"])
    convert.import_file(mil, save(tmp_path / "l.pth", released("mil_ranking")), output)
    assert not (output / "clip").exists()
    assert json.loads((output / "meta.json").read_text())["model"] == "mil_ranking"


def test_a_folder_of_something_else_is_left_alone(recipe, released, tmp_path):
    precious = tmp_path / "mine" / "clip" / "holiday.mp4"
    precious.parent.mkdir(parents=True)
    precious.touch()
    config = load_config([f"--config={recipe('vadclip')}"])
    path = save(tmp_path / "m.pth", released("vadclip"))
    with pytest.raises(InputError, match="is not empty and holds no model"):
        convert.import_file(config, path, tmp_path / "mine")
    assert precious.exists()


def test_arguments_of_one_direction(recipe, capsys):
    for arguments in (
        [],
        ["--torch=a.pth"],
        ["--torch=a", "--output=b", "--to_torch=c"],
    ):
        with pytest.raises(SystemExit) as e:
            main([f"--config={recipe('vadclip')}", *arguments])
        assert e.value.code == 2
        assert "--torch FILE --output DIR" in capsys.readouterr().err


def test_scores_are_those_of_the_released_layout(recipe, released, tmp_path):
    """The linear layers of a file, applied as PyTorch applies them."""
    state = released("mil_ranking")
    config = load_config([f"--config={recipe('mil_ranking')}"])
    output = convert.import_file(
        config, save(tmp_path / "m.pth", state), tmp_path / "m"
    )
    params = load_params(output)[0]
    x = np.random.RandomState(1).standard_normal((3, D)).astype(np.float32)
    y, want = jnp.asarray(x), torch.from_numpy(x)
    for name in ("fc1", "fc2", "fc3"):
        y = y @ params[name]["kernel"] + params[name]["bias"][None]
        weight, bias = (
            torch.from_numpy(state[f"{name}.{k}"]) for k in ("weight", "bias")
        )
        want = torch.nn.functional.linear(want, weight, bias)
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-3)
