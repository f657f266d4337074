"""The recipe follows the dataset's card, wherever the dataset lies."""

import dataclasses
import pathlib
import shlex
import shutil

import numpy as np
import pytest

from wsvad_jax.data import cards
from wsvad_jax.data.records import FeatureProtocol, Record
from wsvad_jax.data.tfds_builder import write_dataset
from wsvad_jax.experiment import suggestion
from wsvad_jax.experiment.config import load_config
from wsvad_jax.experiment.identity import comparable_config
from wsvad_jax.utils.errors import InputError

RECIPES = ("mil_ranking", "clip_tsa", "vadclip", "dsanet")
PUBLIC = {"ucf": cards.UCF, "xd": cards.XD, "shanghaitech": cards.SHANGHAITECH}


def write(card: cards.Card, folder: pathlib.Path) -> pathlib.Path:
    features = np.zeros((1, 2, 8), np.float16)
    splits = {
        split: [Record(f"{split}{i}", features, (i,), 32) for i in (0, 1)]
        for split in ("train", "test")
    }
    card = dataclasses.replace(card, test_crop=0)
    return write_dataset(card.name, card, FeatureProtocol(), splits, folder)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Paths of datasets by name; those of the public sets were moved and renamed."""
    root = tmp_path_factory.mktemp("prepared")
    found = {}
    for name, card in PUBLIC.items():
        made = write(card, root / "data")
        found[name] = root / f"a copy: {name}" / "1.0.0"
        shutil.copytree(made, found[name])
    found["own"] = write(
        cards.infer_card(["Normal", "Fire"], name="yard"), root / "data"
    )
    return found


def without_name(config):
    found = comparable_config(config)
    found["data"] = {k: v for k, v in found["data"].items() if k != "name"}
    return found


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_set_gets_its_recipe_by_path(prepared, recipe, name):
    path = str(prepared[name])
    config = load_config(f"{recipe}:{path}")
    assert config.data.name == path
    assert without_name(config) == without_name(load_config(f"{recipe}:{name}"))
    # The folder above the version is the dataset, too.
    above = load_config(f"{recipe}:{prepared[name].parent}")
    assert without_name(above) == without_name(config)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("ucf", "dsanet"), ("xd", "dsanet"), ("shanghaitech", "clip_tsa")],
)
def test_the_printed_command_trains_the_set_s_own_recipe(prepared, name, recipe):
    command, _ = suggestion.train_command(prepared[name], "some data")
    where = pathlib.Path("some data").absolute()
    assert shlex.split(command)[3:] == [
        *("--config", f"{recipe}:{name}", "--data_dir", str(where))
    ]
    assert "--data_dir" not in suggestion.train_command(prepared[name], None)[0]


def test_the_printed_command_does_without_what_is_not_there(tmp_path):
    card = cards.infer_card(["Normal", "Fire"], name="yard")
    for clip, recipe in (("a/hub", "dsanet"), (str(tmp_path / "gone"), "mil_ranking")):
        path = write(dataclasses.replace(card, clip=clip), tmp_path)
        command, why = suggestion.train_command(path, None)
        assert f" {recipe}:" in command and bool(why) == (recipe != "dsanet")


def test_a_name_in_another_data_dir_is_looked_up_there(prepared, tmp_path):
    shutil.copytree(prepared["xd"], tmp_path / "videos" / "1.0.0")
    config = load_config("dsanet:videos", tmp_path)
    assert config.model.attn_window == 64 and config.data.name == "videos"
    assert load_config("dsanet:videos").model.attn_window == 8


def test_a_folder_of_ones_own_keeps_the_recipe_for_small_ones(prepared):
    config = load_config(f"dsanet:{prepared['own']}")
    assert config.clean.steps == 120 and config.data.name == str(prepared["own"])


def test_a_card_that_only_has_the_name_is_no_public_set(tmp_path):
    path = write(cards.infer_card(["Normal", "Fire"], name="ucf"), tmp_path)
    assert load_config(f"dsanet:{path}").clean.steps == 120


def test_other_keys_may_change(prepared):
    flags = [f"--config=dsanet:{prepared['ucf']}", "--config.clean.batch_size=4"]
    config = load_config(flags)
    assert config.clean.batch_size == 4 and config.clean.epochs == 10


@pytest.mark.parametrize(
    ("recipe", "dataset"),
    [("dsanet:ucf", "own"), ("dsanet", "ucf"), ("dsanet:xd", "ucf")],
)
def test_a_recipe_of_another_dataset_is_refused(prepared, capsys, recipe, dataset):
    flags = [f"--config={recipe}", f"--config.data.name={prepared[dataset]}"]
    with pytest.raises(InputError, match="but the recipe is that of .*; pass the data"):
        load_config(flags)
    # A model may be scored on other videos than those of its training.
    config = load_config(flags, other_data=True)
    assert config.data.name == str(prepared[dataset])
    assert "but the recipe is that of" in capsys.readouterr().err


def test_the_demo_s_recipe_on_other_data_is_said(prepared, capsys):
    flags = ["--config=dsanet", f"--config.data.name={prepared['own']}"]
    assert load_config(flags).clean.steps == 100
    assert "is a folder of your own, but the recipe is that of demo" in (
        capsys.readouterr().err
    )


def test_a_public_set_without_a_recipe_is_said(capsys):
    load_config("dsanet:shanghaitech")
    assert "has no recipe of its own for shanghaitech" in capsys.readouterr().err
    load_config("clip_tsa:shanghaitech")
    assert capsys.readouterr().err == ""
