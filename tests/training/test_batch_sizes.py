"""A recipe's batch where a folder has fewer videos than it asks for."""

import dataclasses

import pytest

from wsvad_jax.data import cards
from wsvad_jax.experiment.build import open_experiment
from wsvad_jax.results.runs import read_run
from wsvad_jax.training import sampler
from wsvad_jax.training.run import train_and_evaluate
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json


def test_the_recipe_s_batch_adapts_to_a_small_folder(tiny, tmp_path, capsys):
    changes = {"clean__batch_size": 32, "clean__held_out": 0.0, "clean__steps": 2}
    config = tiny.config("mil_ranking", **changes)
    results = train_and_evaluate(config, str(tmp_path / "run"))
    remark = (
        "config.clean.batch_size is 32, but the dataset has 6 normal and 6 abnormal "
        "training samples, so batches of 12 are used"
    )
    assert results["remarks"] == [remark]
    said = capsys.readouterr()
    assert f"remark: {remark}" in said.err and f"remark: {remark}" in said.out
    # The recipe itself stays, so that the same command resumes.
    assert read_json(tmp_path / "run/config.json")["clean"]["batch_size"] == 32
    assert train_and_evaluate(config, tmp_path / "run") == results
    # Tables and summaries read such results.
    assert read_run(tmp_path / "run").results["remarks"] == [remark]


def test_a_published_recipe_doesn_t_adapt(tiny):
    changes = {"clean__batch_size": 32, "clean__held_out": 0.0}
    opened = open_experiment(tiny.config("mil_ranking", **changes))
    assert sampler.fit_batch_size(opened, 3, 5)[0] == 6
    assert sampler.fit_batch_size(opened, 16, 40) == (32, "")
    with pytest.raises(InputError, match="a multiple of 2; add videos"):
        sampler.fit_batch_size(opened, 0, 5)
    card = dataclasses.replace(cards.UCF, test_crop=0)
    dataset = dataclasses.replace(opened.dataset, card=card)
    published = dataclasses.replace(opened, dataset=dataset)
    message = r"--config.clean.batch_size=6 \(then it isn't the recipe of ucf\)"
    with pytest.raises(InputError, match=message):
        sampler.fit_batch_size(published, 3, 5)
