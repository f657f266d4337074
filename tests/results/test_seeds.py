"""Several seeds: means, intervals over videos, nothing mixed, nothing run twice."""

import dataclasses
import json
import statistics
import subprocess
import sys

import numpy as np
import pytest
from finished import CARD, CONFIGS, recipe, scored, write_run, write_small

from wsvad_jax import train
from wsvad_jax.metrics import frame_level
from wsvad_jax.metrics.bootstrap import resample_weights
from wsvad_jax.results import seeds as study
from wsvad_jax.training import run
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("data"))


@pytest.fixture
def seeds(tmp_path, small):
    """Two finished runs of one recipe."""
    return [
        write_run(tmp_path / f"seed{s}", recipe("vadclip", str(small), s))
        for s in (0, 1)
    ]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("3", (3,)),
        ("0,1,2", (0, 1, 2)),
        ("0..4", (0, 1, 2, 3, 4)),
        ("7, 1..2", (7, 1, 2)),
    ],
)
def test_seeds_as_list_and_range(text, expected):
    assert study.parse_seeds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "a", "0,,1", "1,1", "0..2,1", "3..1", "-1", "1.5"]
)
def test_other_seeds_are_refused(text):
    with pytest.raises(InputError, match="--seeds"):
        study.parse_seeds(text)


def test_interval_is_of_the_mean_over_runs_on_the_same_videos():
    runs, n = [scored(0), scored(1), scored(2)], 12
    abnormal = np.array([v.abnormal for v in runs[0]])
    weights = resample_weights(abnormal, n, np.random.default_rng(3)).astype(int)

    def drawn(videos, counts):
        return [
            dataclasses.replace(v, video=f"{v.video}/{i}")
            for v, count in zip(videos, counts, strict=True)
            for i in range(count)
        ]

    means = [
        statistics.fmean(
            frame_level.evaluate(drawn(videos, counts), CARD.class_names)["auc"]
            for videos in runs
        )
        for counts in weights
    ]
    values = study.bootstrap_means(runs, "auc", n=n, seed=3)
    assert values == pytest.approx(means)
    found = study.percentile_interval(values, level=0.9)
    assert found == pytest.approx(np.quantile(means, [0.05, 0.95]).tolist())


def test_summary_of_two_seeds(seeds, capsys):
    summary = study.write_summary(seeds[0].parent / "summary.json", seeds)
    results = [read_json(w / "results.json") for w in seeds]
    assert summary["seeds"] == [0, 1] and summary["protocol"] == "clean"
    for key in ("auc", "map_avg_clean", "video_auc_align"):
        values = [r[key] for r in results]
        found = summary["metrics"][key]
        assert found["seeds"] == values
        assert found["mean"] == pytest.approx(np.mean(values))
        assert found["std"] == pytest.approx(np.std(values, ddof=1))
    assert summary["metrics"]["map@0.3"]["seeds"] == [r["map"][2] for r in results]
    for key in ("auc", "ap", "video_auc", "ap_align"):
        low, high = summary["metrics"][key]["interval"]
        assert low < summary["metrics"][key]["mean"] < high
    assert "interval" not in summary["metrics"]["map_avg"]
    assert json.loads((seeds[0].parent / "summary.json").read_text()) == summary
    table = capsys.readouterr().out
    assert "vadclip on small, 2 seeds; trained here, clean: last weights" in table
    assert f"{100 * summary['metrics']['auc']['mean']:.2f} ± " in table


def test_one_seed_has_no_deviation(seeds):
    found = study.summarise_seeds(seeds[:1])["metrics"]["auc"]
    assert found["std"] is None and found["mean"] == found["seeds"][0]


def test_an_undefined_value_makes_no_mean(seeds):
    path = seeds[1] / "results.json"
    write_json(path, read_json(path) | {"map": None, "map_avg": None})
    found = study.summarise_seeds(seeds)["metrics"]
    assert found["map_avg"]["mean"] is None and found["map@0.1"]["std"] is None


@pytest.mark.parametrize(
    "changes, message",
    [
        (["protocol=paper"], "protocol is 'paper', but 'clean'"),
        (["clean.epochs=3"], "clean.epochs is 3, but None"),
    ],
)
def test_a_study_mixes_nothing(seeds, tmp_path, small, changes, message):
    other = write_run(tmp_path / "x", recipe("vadclip", str(small), 2, *changes))
    with pytest.raises(InputError, match=message):
        study.summarise_seeds([*seeds, other])


def test_what_does_not_bear_on_the_numbers_may_differ(seeds, tmp_path, small):
    changes = ("paper.epochs=1", "checkpoint_every_steps=7", "data.placement=device")
    other = write_run(tmp_path / "x", recipe("vadclip", str(small), 2, *changes))
    assert study.summarise_seeds([*seeds, other])["seeds"] == [0, 1, 2]


def test_bad_runs_are_named(seeds, tmp_path, small):
    again = write_run(tmp_path / "again", recipe("vadclip", str(small), 1))
    with pytest.raises(InputError, match="are both seed 1"):
        study.summarise_seeds([*seeds, again])
    (seeds[1] / "scores.npz").unlink()
    with pytest.raises(InputError, match="seed1/scores.npz: no such file"):
        study.summarise_seeds(seeds)
    (seeds[1] / "results.json").unlink()
    with pytest.raises(InputError, match="seed1.* is not finished"):
        study.summarise_seeds(seeds)


def test_scores_of_another_test_set(seeds):
    with np.load(seeds[0] / "scores.npz") as f:
        arrays = {k: f[k] for k in f.files if not k.startswith("b3/")}
    np.savez_compressed(seeds[0] / "scores.npz", **arrays)
    with pytest.raises(InputError, match="test videos are not those of .*b3 is in one"):
        study.summarise_seeds(seeds)


def test_finished_seeds_are_only_summarised(seeds, small, capsys):
    top = seeds[0].parent
    before = {p: p.stat().st_mtime_ns for w in seeds for p in w.iterdir()}
    arguments = [f"--config={CONFIGS / 'vadclip'}.py:{small}", f"--workdir={top}"]
    assert train.main([*arguments, "--seeds", "0..1"]) == 0
    assert before == {p: p.stat().st_mtime_ns for w in seeds for p in w.iterdir()}
    assert read_json(top / "summary.json")["seeds"] == [0, 1]
    assert "2 seeds" in capsys.readouterr().out


def test_default_places(seeds, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for s in (0, 1, 2):
        config = recipe("vadclip", str(small), s, "protocol=paper")
        write_run(tmp_path / "runs" / f"vadclip-small-{s}-paper", config)
    arguments = [f"--config={CONFIGS / 'vadclip'}.py:{small}", "--seeds"]
    train.main([*arguments, "--config.protocol=paper"])  # the recipe's list
    summary = read_json(tmp_path / "runs" / "vadclip-small-paper-seeds.json")
    assert summary["seeds"] == [0, 1, 2]
    assert summary["weights"] == "trained here, paper: selected on test"
    clean = run.default_workdir(recipe("vadclip", str(small), 1))
    assert str(clean) == "runs/vadclip-small-1"


def test_arguments_that_do_not_go_together(seeds, small):
    arguments = [f"--config={CONFIGS / 'vadclip'}.py:{small}", "--seeds=0,1"]
    with pytest.raises(InputError, match="--seeds and --config.seed both"):
        train.main([*arguments, "--config.seed=3"])
    with pytest.raises(InputError, match="is a single run"):
        train.main([*arguments, f"--workdir={seeds[0]}"])
    with pytest.raises(InputError, match="seed0 belongs to another run: .* --restart"):
        top = f"--workdir={seeds[0].parent}"
        train.main([*arguments, top, "--config.protocol=paper"])


def test_a_recipe_that_cannot_be_opened_leaves_nothing(small, tmp_path):
    config = recipe("mil_ranking", str(small), 0, "protocol=papr")
    with pytest.raises(InputError, match="protocol is 'papr'"):
        run.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_seeds_train_and_go_on_where_one_stopped(small, tmp_path):
    arguments = [
        f"--config={CONFIGS / 'mil_ranking'}.py:{small}",
        f"--workdir={tmp_path}",
        "--config.clean.steps=6",
        "--config.clean.batch_size=8",
        "--config.data.length=8",
        "--config.model.segments=8",
    ]
    program = [sys.executable, "-m", "wsvad_jax.train", *arguments]
    subprocess.run([*program, "--seeds=0"], check=True)
    first = (tmp_path / "seed0" / "results.json").read_bytes()
    subprocess.run([*program, "--seeds=0,1"], check=True)
    assert (tmp_path / "seed0" / "results.json").read_bytes() == first
    summary = read_json(tmp_path / "summary.json")
    assert summary["seeds"] == [0, 1] and summary["step"] == [6, 6]
    assert summary["metrics"]["auc"]["interval"] is not None
