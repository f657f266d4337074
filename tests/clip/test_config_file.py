"""Sizes of CLIP's towers, from files that state them all and from others."""

import dataclasses
import json

import pytest

from wsvad_jax.clip.config_file import read_configs
from wsvad_jax.clip.hub import transformers
from wsvad_jax.utils.errors import InputError


@pytest.fixture
def config(clip) -> dict:
    return json.loads((clip / "config.json").read_text())


@pytest.mark.parametrize("left_out", [None, "hidden_act", "layer_norm_eps"])
def test_sizes_are_those_of_transformers(config, tmp_path, left_out):
    config["vision_config"].pop(left_out, None)
    (tmp_path / "config.json").write_text(json.dumps(config))

    whole = transformers().CLIPConfig.from_pretrained(tmp_path)
    towers = zip(
        read_configs(tmp_path), (whole.text_config, whole.vision_config), strict=True
    )
    for ours, theirs in towers:
        sizes = dataclasses.asdict(ours)
        assert sizes.pop("projection_dim") == whole.projection_dim
        assert sizes == {name: getattr(theirs, name) for name in sizes}


def test_a_second_copy_of_a_tower_counts_as_in_transformers(config, tmp_path):
    width = 2 * config["text_config"]["intermediate_size"]
    config["text_config_dict"] = {"intermediate_size": width}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_configs(tmp_path)[0].intermediate_size == width


@pytest.mark.parametrize(
    ("tower", "name", "value"),
    [
        ("text_config", "vocab_size", "many"),
        ("vision_config", "patch_size", 0),
        ("vision_config", "layer_norm_eps", "small"),
    ],
)
def test_sizes_that_are_none(config, tmp_path, tower, name, value):
    config[tower][name] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=rf"config\.json: {name} is {value!r}"):
        read_configs(tmp_path)
