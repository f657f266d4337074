"""Runs of one recipe share their compiled programs within a process."""

from wsvad_jax.evaluation.scorer import Scorer
from wsvad_jax.experiment.build import open_experiment
from wsvad_jax.training.loop import SeedRun, build_init_and_step


def programs(tiny, folder, **changes):
    experiment = open_experiment(tiny.config("mil_ranking", **changes))
    scorer = Scorer(experiment)
    run = SeedRun(experiment, scorer, folder)
    init, step = build_init_and_step(run)
    return init.func, run.sampler.compile(step), scorer.program  # type: ignore


def test_seeds_share_their_programs(tiny, tmp_path):
    assert programs(tiny, tmp_path) == programs(tiny, tmp_path, seed=1)


def test_other_settings_have_their_own_programs(tiny, tmp_path):
    init, step, score = programs(tiny, tmp_path)
    other = programs(tiny, tmp_path, loss__smooth=1e-3)
    assert other[0] == init and other[1] != step and other[2] == score
    assert programs(tiny, tmp_path, clean__optim__default__lr=0.5)[1] != step
    assert programs(tiny, tmp_path, model__dropout=0.5)[2] != score
