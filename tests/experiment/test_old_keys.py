"""Recipes, flags and files with the key names of earlier versions."""

import json
import pathlib

import pytest

from wsvad_jax.experiment import identity, old_keys, saved_config, validation
from wsvad_jax.experiment.config import load_config
from wsvad_jax.training import run
from wsvad_jax.utils.errors import InputError

OLD_RECIPE = """\
from ml_collections import ConfigDict


def get_config(dataset="demo"):
    protocol = {
        "epochs": 0, "steps": 5, "batch_size": 4, "select": "last", "metric": "video_auc",
        "eval_every": 0, "held_out": 0.0, "later_of_equals": True,
        "optim": {
            "default": {
                "name": "adamw", "lr": 1e-3, "weight_decay": 0.0,
                "schedule": "warmup_cosine", "warmup": 2, "count_loaders": True,
            }
        },
    }
    return ConfigDict({
        "model_name": "mil_ranking", "seed": 0, "protocol": "clean",
        "checkpoint_every": 0,
        "model": {"segments": 32}, "loss": {"pairing": "pairs"},
        "data": {"name": dataset, "length": 0, "pairing": "mixed", "samples": "crops"},
        "eval": {"mode": "windows"}, "clean": protocol, "paper": protocol,
    })
"""


@pytest.mark.parametrize(
    ("flag", "new", "value"),
    [
        ("checkpoint_every=7", "checkpoint_every_steps", 7),
        ("checkpoint_every=0", "checkpoint_every_steps", None),
        ("data.parts=4", "data.microbatches", 4),
        ("data.pairing=mixed", "data.batch_sampling", "uniform"),
        ("data.pairing=halves", "data.batch_sampling", "balanced"),
        ("clean.eval_every=5", "clean.eval_every_steps", 5),
        ("clean.eval_every=0", "clean.eval_every_steps", None),
        ("clean.later_of_equals=False", "clean.prefer_later_on_tie", False),
        ("clean.without_place=False", "clean.remove_position_bias", False),
        (
            "clean.optim.default.count_loaders=True",
            "clean.optim.default.schedule_counts_loader_batches",
            True,
        ),
    ],
)
@pytest.mark.parametrize("separate", [False, True])
def test_an_old_flag_sets_the_new_key(capsys, flag, new, value, separate):
    key, _, text = flag.partition("=")
    words = [f"--config.{key}", text] if separate else [f"--config.{flag}"]
    if separate and isinstance(value, bool):
        return  # a switch takes no separate value
    config = load_config(["--config=dsanet:demo", *words])
    for part in new.split("."):
        config = config[part]
    assert config == value
    err = capsys.readouterr().err
    assert err == f"warning: --config.{key} is now config.{new}\n"


@pytest.mark.parametrize("unset", ["none", "None", "0"])
def test_none_and_the_old_zero_unset_a_whole_number(capsys, unset):
    keys = (
        "checkpoint_every_steps",
        "data.length",
        "clean.eval_every_steps",
        "mesh.fsdp",
    )
    config = load_config(
        ["--config=dsanet:demo", *(f"--config.{k}={unset}" for k in keys)]
    )
    assert config.checkpoint_every_steps is config.data.length is None
    assert config.clean.eval_every_steps is config.mesh.fsdp is None
    assert capsys.readouterr().err == ""
    # A key that is None in the recipe takes a number, and nothing else.
    assert (
        load_config(["--config=dsanet:ucf", "--config.clean.steps=3"]).clean.steps == 3
    )
    with pytest.raises(InputError, match="clean.steps"):
        load_config(["--config=dsanet:ucf", "--config.clean.steps=few"])


def test_the_last_flag_counts():
    flags = [
        "--config=dsanet:demo",
        "--config.clean.steps=none",
        "--config.clean.steps=7",
    ]
    assert load_config(flags).clean.steps == 7
    flags = [flags[0], *reversed(flags[1:])]
    assert load_config([*flags, "--config.clean.epochs=2"]).clean.steps is None


def test_epochs_alone_replace_the_recipe_s_steps():
    config = load_config(["--config=dsanet:demo", "--config.clean.epochs=2"])
    assert (config.clean.epochs, config.clean.steps) == (2, None)
    both = ["--config.clean.epochs=2", "--config.clean.steps=9"]
    config = load_config(["--config=dsanet:demo", *both])
    assert (config.clean.epochs, config.clean.steps) == (None, 9)


def test_an_old_recipe_file_is_read(tmp_path, capsys):
    path = tmp_path / "old.py"
    path.write_text(OLD_RECIPE)
    config = load_config([f"--config={path}:demo", "--config.data.microbatches=1"])
    validation.check(config)
    assert config.checkpoint_every_steps is config.data.length is None
    assert config.data.batch_sampling == "uniform" and config.data.microbatches == 1
    assert config.loss.pairing == "pairs" and config.mesh.data is None
    assert config.clean.prefer_later_on_tie and not config.clean.reload_best
    group = config.clean.optim.default
    assert group.schedule_counts_loader_batches and group.final == 0.1
    said = capsys.readouterr().err.splitlines()
    assert (
        f"warning: {path}:demo: config.data.pairing is now config.data.batch_sampling"
        in said
    )
    assert all(line.startswith("warning: ") for line in said)


def test_a_protocol_must_say_how_long_and_what_its_schedule_needs():
    config = load_config(["--config=dsanet:ucf", "--config.clean.epochs=none"])
    with pytest.raises(InputError, match="steps and config.clean.epochs are both None"):
        validation.check_protocol(config)
    flag = "--config.clean.optim.default.schedule=warmup_cosine"
    with pytest.raises(InputError, match="requires the key warmup"):
        validation.check_protocol(load_config(["--config=vadclip:ucf", flag]))


def old_names(config: dict) -> dict:
    """A recipe as an earlier version wrote it to config.json."""
    text = json.dumps(config)
    for old, new in (
        ('"checkpoint_every": 0', '"checkpoint_every_steps": null'),
        ('"parts"', '"microbatches"'),
        ('"pairing": "halves"', '"batch_sampling": "balanced"'),
        ('"eval_every": 0', '"eval_every_steps": null'),
        ('"later_of_equals"', '"prefer_later_on_tie"'),
        ('"without_place"', '"remove_position_bias"'),
        ('"count_loaders"', '"schedule_counts_loader_batches"'),
        ('"length": 0', '"length": null'),
    ):
        text = text.replace(new, old)
    return json.loads(text)


def test_files_of_earlier_versions_are_the_same_run(tmp_path, capsys):
    config = load_config("dsanet:ucf")
    now = json.loads(json.dumps(identity.comparable_config(config)))
    old = old_names(now)
    del old["paper"]["steps"]
    assert old != now and "parts" in old["data"]
    assert saved_config.check_config(json.loads(json.dumps(old)), "file") == now | {
        "seeds": (),
        "mesh": {"data": None, "fsdp": None},
    }
    (tmp_path / "config.json").write_text(json.dumps(old))
    run.check_workdir(tmp_path, config)
    assert capsys.readouterr().err == ""  # files need no warning


def test_the_protocol_not_in_force_identifies_no_run(tmp_path):
    config = load_config("dsanet:ucf")
    run_config = identity.comparable_config(config)
    (tmp_path / "config.json").write_text(json.dumps(run_config))
    run.check_workdir(
        tmp_path, load_config(["--config=dsanet:ucf", "--config.paper.steps=3"])
    )
    with pytest.raises(InputError, match="its clean.epochs is 10, yours None"):
        run.check_workdir(
            tmp_path, load_config(["--config=dsanet:ucf", "--config.clean.steps=3"])
        )
    paper = load_config(["--config=dsanet:ucf", "--config.protocol=paper"])
    with pytest.raises(InputError, match="its protocol is 'clean', yours 'paper'"):
        run.check_workdir(tmp_path, paper)


def test_every_optional_key_is_a_number_or_none():
    for name in ("mil_ranking", "clip_tsa", "vadclip", "dsanet"):
        for dataset in ("demo", "ucf", "xd", "shanghaitech", "a folder"):
            path = pathlib.Path("configs").absolute() / f"{name}.py"
            values = identity.keys_in_force(load_config(f"{path}:{dataset}").to_dict())
            for key, value in values.items():
                assert value is not None or old_keys.is_optional(key), key
                assert value != 0 or not old_keys.is_optional(key), key


def test_switches_that_came_later_have_the_value_of_before():
    config = load_config(["--config=dsanet:demo"]).to_dict()
    for key in ("use_graph", "classifier_init_scale"):
        del config["model"][key]
    old_keys.upgrade(config)
    assert config["model"]["use_graph"] is True
    assert config["model"]["classifier_init_scale"] == 1.0
