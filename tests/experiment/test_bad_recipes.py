"""Recipes and workdirs that training refuses, in one sentence."""

import pathlib

import pytest

from wsvad_jax import train
from wsvad_jax.experiment.config import load_config
from wsvad_jax.training import run
from wsvad_jax.utils import program as cli
from wsvad_jax.utils.errors import InputError


def program(capsys, main, *arguments) -> str:
    """Runs a program that fails; returns its one line of complaint."""
    with pytest.raises(SystemExit) as e:
        cli.run(lambda: main([str(a) for a in arguments]))
    assert e.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert err.endswith(lines[0] + "\n") and len(lines) == 1
    return lines[0]


def test_workdirs_of_something_else(tiny, finished, tmp_path, capsys):
    other = program(
        capsys, train.main, *tiny.flags("mil_ranking"), "--workdir", finished
    )
    assert "its model_name is 'dsanet', yours 'mil_ranking'" in other
    seed = program(capsys, train.main, *tiny.flags(seed=1), "--workdir", finished)
    assert "its seed is 0, yours 1" in seed
    (tmp_path / "letter.txt").write_text("dear reader")
    foreign = program(capsys, train.main, *tiny.flags(), "--workdir", tmp_path)
    assert "is not empty and holds no run" in foreign
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_a_recipe_that_does_not_fit_leaves_nothing(tiny, tmp_path, capsys):
    """So that the mended recipe may use the same workdir."""
    where = ("--workdir", tmp_path / "run")
    flags = tiny.flags("mil_ranking", clean__batch_size=12)
    line = program(capsys, train.main, *flags, *where)
    assert "batch_size is 12, which asks for 6 normal and as many abnormal" in line
    assert "there are 5 normal and 5 abnormal" in line
    assert "pass --config.clean.batch_size=10" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("model", "changes", "wanted"),
    [
        ("dsanet", {"data__name": "nowhere"}, "no dataset 'nowhere'; expected demo"),
        ("dsanet", {"data__name": "ucf"}, "dataset ucf is not prepared there"),
        ("dsanet", {"lrr": 1}, "lrr"),
        ("dsanet", {"model__windows": 1}, "windows"),
        ("dsanet", {"clean__batch_size": "many"}, "batch_size"),
        (
            "dsanet",
            {"data__length": 20},
            "config.model.attn_window 8 doesn't divide the 20 snippets",
        ),
        ("dsanet", {"clip": "/nowhere/at/all"}, "/nowhere/at/all"),
        ("dsanet", {"clip": ""}, "config.clip is empty; expected auto, random"),
        ("mil_ranking", {"protocol": "dirty"}, "expected clean, paper or quick"),
        ("mil_ranking", {"data__placement": "disk"}, "expected host or device"),
        (
            "mil_ranking",
            {"data__batch_sampling": "thirds"},
            "expected balanced or uniform",
        ),
        ("mil_ranking", {"eval__mode": "parts"}, "expected windows or whole"),
        (
            "vadclip",
            {"eval__mode": "whole"},
            "vadclip learns positions in windows of 40 snippets and knows no others",
        ),
        ("mil_ranking", {"eval__normal_truth": "none"}, "expected unmatched or whole"),
        ("mil_ranking", {"clean__select": "first"}, "expected best or last"),
        (
            "mil_ranking",
            {"clean__steps": -1},
            "clean.steps is -1; expected a number in",
        ),
        ("mil_ranking", {"model__dtype": "int8"}, "expected auto, float32 or bfloat16"),
        (
            "clip_tsa",
            {"model__samples": 0},
            "samples is 0; expected a number in [1, inf)",
        ),
        (
            "vadclip",
            {"model__visual_heads": 3},
            "visual_heads is 3, which doesn't divide",
        ),
        (
            "dsanet",
            {"model__decoder_heads": 3},
            "decoder_heads is 3, which doesn't divide",
        ),
        ("mil_ranking", {"clean__batch_size": 5}, "need an even number"),
        ("mil_ranking", {"clean__metric": "auc"}, "choose video_auc"),
        (
            "mil_ranking",
            {"protocol": "paper", "paper__metric": "accuracy"},
            "config.paper.metric is 'accuracy'; expected one of auc",
        ),
        (
            "mil_ranking",
            {"clean__optim__default__schedule": "linear"},
            "schedule is 'linear'",
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_bad_recipes(tiny, tmp_path, capsys, model, changes, wanted):
    flags = tiny.flags(model, **changes)
    line = program(capsys, train.main, *flags, "--workdir", tmp_path / "run")
    assert wanted in line


@pytest.mark.parametrize("flags", [(), ("--seeds",)], ids=["one", "seeds"])
@pytest.mark.parametrize("seeds", ["a,b", "-1", "0,0"])
def test_a_bad_list_of_seeds(tiny, tmp_path, capsys, flags, seeds):
    flags = (*tiny.flags("mil_ranking", seeds=seeds), *flags)
    line = program(capsys, train.main, *flags, "--workdir", tmp_path / "run")
    assert "config.seeds is (" in line
    assert "expected a list of different values, each a whole number in" in line
    assert not (tmp_path / "run").exists()


def test_an_empty_list_of_seeds(tiny, tmp_path, capsys):
    flags = (*tiny.flags("mil_ranking", seeds="()"), "--seeds")
    line = program(capsys, train.main, *flags, "--workdir", tmp_path / "run")
    assert line == "error: config.seeds is empty; pass the seeds: --seeds 0,1,2"


def test_missing_recipe(capsys, tmp_path):
    flags = (f"--config={tmp_path}/none.py:demo", "--config.seed=1")
    line = program(capsys, train.main, *flags)
    assert f"{tmp_path}/none.py: no such file" in line


def test_default_workdir(tiny):
    config = tiny.config(seed=3)
    assert str(run.default_workdir(config)) == "runs/dsanet-own-3"


def test_devices_that_do_not_divide_the_batch(tiny, tmp_path):
    """Three devices, in a process of its own; one sentence and exit code 2."""
    process = tiny.start(
        *tiny.flags("mil_ranking"),
        "--workdir",
        tmp_path / "run",
        XLA_FLAGS="--xla_force_host_platform_device_count=3",
    )
    _, err = process.communicate()
    assert process.returncode == 2
    assert "Traceback" not in err
    assert "batch_size is 8, which 3 devices don't divide" in err


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("nothing:ucf", "nothing"),
        ("mil_ranking:/no/such/data", "no dataset '/no/such/data'"),
        (pathlib.Path("mil_ranking:/no/such/data"), "no dataset '/no/such/data'"),
    ],
)
def test_training_takes_the_name_of_a_recipe(recipe, words, tmp_path):
    with pytest.raises(InputError, match=words):
        run.train_and_evaluate(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_recipe_may_be_a_path():
    recipe = pathlib.Path("configs/mil_ranking.py").absolute()
    assert load_config(pathlib.Path("mil_ranking:ucf")).data.name == "ucf"
    assert load_config(recipe).model_name == "mil_ranking"


@pytest.mark.parametrize(
    ("group", "key"),
    [
        ("clean=5", "clean.batch_size"),
        ("clean", "clean.batch_size"),
        ("clean.optim={'a': 1}", "clean.optim.default.schedule"),
        ("eval=x", "eval.batch_size"),
    ],
)
def test_a_value_for_a_group_of_keys(group, key):
    """Also a dictionary, whose keys nobody would check."""
    path = group.partition("=")[0]
    with pytest.raises(InputError) as e:
        load_config(["--config=mil_ranking:ucf", f"--config.{group}"])
    said, _, shown = str(e.value).partition("; pass one of them, such as ")
    assert said == f"--config.{path}: {path} is a group of keys"
    assert f"--config.{key}=…" in shown
    load_config(["--config=mil_ranking:ucf", *shown.replace("…", "1").split(" or ")])


def test_a_key_below_a_value():
    with pytest.raises(
        InputError, match=r"^--config\.seeds\.a: the recipe has no such"
    ):
        load_config(["--config=dsanet:ucf", "--config.seeds.a=1"])


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("checkpoint_every_steps=often", "is 'often'; expected a whole number"),
        ("clean.steps=1e3", "is '1e3'; expected a whole number"),
        ("data.length=", "is ''; expected a whole number"),  # or none: a placeholder
        ("loss.align=a: b", "is 'a: b'; expected a number"),
        ("model.remat=maybe", "is 'maybe'; expected true or false"),
    ],
)
def test_values_of_another_type(flag, message):
    key = flag.partition("=")[0]
    with pytest.raises(InputError, match=rf"^--config\.{key} {message}$"):
        load_config(["--config=dsanet:ucf", f"--config.{flag}"])
