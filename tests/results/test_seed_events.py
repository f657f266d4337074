"""Event-level metrics over seeds: means, intervals, and why there are none."""

import numpy as np
import pytest
from finished import CARD, recipe, scored, write_run, write_small

from wsvad_jax.data.dataset import open_dataset
from wsvad_jax.evaluation.event_results import event_results, split_events
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.evaluation.score_file import write_scores
from wsvad_jax.results import seeds as study
from wsvad_jax.results.schema import read_summary
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json

RULES = EventRules(min_length=0.0)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("data"))


@pytest.fixture
def runs(tmp_path, small):
    """Two finished runs with metrics of events, found at 16 frames per second."""
    split, made = open_dataset(small).split("test"), []
    for seed in (0, 1):
        videos = scored(seed)
        events = event_results(split, videos, CARD, RULES, 16.0)
        path = tmp_path / f"seed{seed}"
        write_run(path, recipe("vadclip", str(small), seed), events=events)
        found = split_events(split, videos, CARD, RULES, 16.0)
        write_scores(path / "scores.npz", videos, found)
        made.append(path)
    return made


def test_means_and_intervals(runs, tmp_path, capsys):
    summary = study.write_summary(tmp_path / "summary.json", runs)
    events = summary["events"]
    assert events["remark"] == "" and events["rules"] == RULES.as_dict()
    for name in ("event_f1@0.1", "event_recall@0.5", "event_false_alarms_per_hour@0.1"):
        metric = events["metrics"][name]
        low, high = metric["interval"]
        assert low <= metric["mean"] <= high and low < high
        assert len(metric["seeds"]) == 2 and metric["std"] is not None
    assert "interval" not in events["metrics"]["event_delay_median@0.1"]
    assert read_summary(tmp_path / "summary.json")["events"] == events

    lines = capsys.readouterr().out.splitlines()
    (f1,) = [line for line in lines if line.startswith("f1@0.1 (%)")]
    assert f"{100 * events['metrics']['event_f1@0.1']['mean']:.2f} ± " in f1
    (rate,) = [line for line in lines if line.startswith("false_alarms_per_hour@0.1")]
    assert f"{events['metrics']['event_false_alarms_per_hour@0.1']['mean']:.2f}" in rate


def test_runs_of_an_older_version_have_means_without_intervals(runs):
    for path in runs:
        with np.load(path / "scores.npz") as arrays:
            kept = {k: arrays[k] for k in arrays.files if not k.endswith("/events")}
        np.savez(path / "scores.npz", **kept)
    events = study.summarise_seeds(runs)["events"]
    assert events["remark"].startswith("no intervals: ")
    assert events["metrics"]["event_f1@0.1"]["mean"] is not None
    assert "interval" not in events["metrics"]["event_f1@0.1"]


def test_other_rules_or_missing_metrics_have_no_mean(runs):
    results = read_json(runs[1] / "results.json")
    other = {**results["events"], "rules": {"high": 0.7, "low": 0.3}}
    write_json(runs[1] / "results.json", results | {"events": other})
    events = study.summarise_seeds(runs)["events"]
    assert events["metrics"] == {} and "other event rules" in events["remark"]

    write_json(
        runs[1] / "results.json", {k: v for k, v in results.items() if k != "events"}
    )
    events = study.summarise_seeds(runs)["events"]
    assert (
        events["metrics"] == {} and "seed1 has no metrics of events" in events["remark"]
    )


def test_damaged_events_are_refused(runs):
    with np.load(runs[0] / "scores.npz") as arrays:
        kept = dict(arrays)
    name = next(k for k in kept if k.endswith("/events"))
    np.savez(runs[0] / "scores.npz", **kept | {name: np.zeros((2, 5))})
    with pytest.raises(InputError, match="expected rows"):
        study.summarise_seeds(runs)
