"""`train --quick`: a protocol of its own, derived from any recipe."""

import json

import pytest

from wsvad_jax import train
from wsvad_jax.experiment.config import load_config
from wsvad_jax.results.runs import read_run
from wsvad_jax.training.workdir import default_workdir
from wsvad_jax.utils.errors import InputError

MODELS = ("mil_ranking", "clip_tsa", "vadclip", "dsanet")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dataset", ["demo", "ucf", "xd", "shanghaitech", "mine"])
def test_every_recipe_has_one(model, dataset):
    config = load_config(f"{model}:{dataset}", quick=True)
    assert config.protocol == "quick" and config.quick.steps <= 1000
    assert config.quick.batch_size <= 16 and config.quick.held_out == 0
    assert config.quick.select == "last" and not config.quick.reload_best
    assert (config.data.length or 0) <= 64
    assert default_workdir(config).name == f"{model}-{dataset}-0-quick"
    for group in config.quick.optim.values():
        assert group.get("warmup", 0) < config.quick.steps

    # The other protocols stay as they are.
    full = load_config(f"{model}:{dataset}")
    assert config.clean == full.clean and "quick" not in full


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "0,1"], "--quick trains one seed"),
        (["--seeds"], "--quick trains one seed"),
        (["--config.protocol=paper"], "--config.protocol contradicts --quick"),
        (["--config.protocol=quick"], "--config.protocol contradicts --quick"),
        (["--config.clean.steps=3"], "pass --config.quick.steps"),
        (["--config.paper.epochs=3"], "pass --config.quick.epochs"),
        (["--config.quick.steps=-1"], "config.quick.steps is -1; expected"),
        (["--config.quick.batch_size=-2"], "config.quick.batch_size is -2; expected"),
        (["--config.quick.nosuch=1"], "has no such key"),
        (["--together"], "--together requires --seeds"),
    ],
)
def test_what_contradicts_it(tiny, flags, message, tmp_path):
    recipe = ["--config", f"mil_ranking:{tiny.path}", "--workdir", str(tmp_path / "w")]
    with pytest.raises(InputError, match=message):
        train.main([*recipe, "--quick", *flags])
    assert not (tmp_path / "w").exists()


def test_quick_is_no_protocol_without_the_flag(tiny, tmp_path):
    with pytest.raises(InputError, match="is 'quick'; pass --quick instead"):
        train.main(
            ["--config", f"mil_ranking:{tiny.path}", "--config.protocol=quick"]
            + ["--workdir", str(tmp_path / "w")]
        )


def test_a_run_says_what_it_is(tiny, tmp_path, capsys):
    recipe = ["--config", f"mil_ranking:{tiny.path}", "--workdir", str(tmp_path / "w")]
    train.main([*recipe, "--quick", "--config.quick.steps=4"])
    assert "quick look (--quick) of 4 steps" in capsys.readouterr().out
    results = json.loads((tmp_path / "w" / "results.json").read_text())
    assert (results["protocol"], results["step"]) == ("quick", 4)
    assert "train without --quick" in results["remarks"][0]
    assert "A quick look" in (tmp_path / "w" / "MODEL_CARD.md").read_text()
    description = read_run(tmp_path / "w").weights_description
    assert description.startswith("a quick look (--quick), not trained fully")

    # The same command shows the run; a full training needs another folder.
    train.main([*recipe, "--quick", "--config.quick.steps=4"])
    assert "is finished" in capsys.readouterr().out
    with pytest.raises(InputError, match="its protocol is 'quick', yours 'clean'"):
        train.main(recipe)
