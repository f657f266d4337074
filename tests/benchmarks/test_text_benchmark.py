"""The text benchmark: its conditions, its table, and a whole run on a tiny dataset."""

import dataclasses

import numpy as np
import pytest

from wsvad_jax import benchmark
from wsvad_jax.benchmarks import text_benchmark, text_conditions, text_table
from wsvad_jax.benchmarks.text_conditions import TextCondition
from wsvad_jax.data.cards import ClassCard
from wsvad_jax.data.dataset import open_dataset
from wsvad_jax.datasets.demo.dataset import PROMPTS
from wsvad_jax.datasets.demo.paraphrases import PARAPHRASES
from wsvad_jax.experiment.build import open_experiment
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json


@pytest.fixture(scope="module")
def card(tiny):
    return open_dataset(tiny.path).card


def test_every_class_gets_the_words_of_another(card):
    others = tuple(ClassCard(n, (f"a {n}", f"the {n}")) for n in "abc")
    whole = dataclasses.replace(card, classes=(card.classes[0], *others))
    moved = text_conditions.permuted(whole)
    assert moved.class_names == whole.class_names
    assert moved.prompts[0] == whole.prompts[0]
    assert sorted(moved.prompts) == sorted(whole.prompts)
    changed = zip(moved.prompts[1:], whole.prompts[1:], strict=True)
    assert all(a != b for a, b in changed)
    with pytest.raises(InputError, match="at least two anomaly classes"):
        text_conditions.permuted(dataclasses.replace(card, classes=whole.classes[:2]))


def test_conditions_of_a_dataset(tiny, card):
    dataset = open_dataset(tiny.path)
    found = text_conditions.list_conditions(
        dataset, text_conditions.NAMES, ("all",), None
    )
    assert [c.name for c in found] == [
        *("trained", "permuted", "permuted_at_test", "random_tower"),
        *("held_out Fight", "held_out Fire"),
    ]
    assert [c.training for c in found] == [
        *("trained", "permuted", "trained", "random_tower"),
        *("held_out-Fight", "held_out-Fire"),
    ]
    kinds = (text_conditions.PARAPHRASED,)
    found = text_conditions.list_conditions(dataset, kinds, (), card)
    assert [c.kind for c in found] == ["trained", "paraphrased"]
    with pytest.raises(InputError, match="--held_out Smoke: .* all, none or some of"):
        text_conditions.list_conditions(
            dataset, text_conditions.NAMES, ("Smoke",), None
        )


def test_a_held_out_class_is_not_trained_but_scored(tiny, card):
    base = open_experiment(tiny.config("vadclip"))
    condition = TextCondition(text_conditions.HELD_OUT, card, "Fight")
    training = text_conditions.training_experiment(base, condition)
    fight = card.index("Fight")
    for entry in training.dataset.split("train").entries:
        own = next(
            e for e in base.dataset.split("train").entries if e.video == entry.video
        )
        assert fight not in own.label
    assert training.text is not None and base.text is not None
    assert len(training.text.class_from_prompt) == len(card.classes) - 1

    scoring = text_conditions.test_experiment(base, training, condition)
    assert scoring.dataset.card.class_names == card.class_names
    test = base.dataset.split("test").entries
    assert scoring.dataset.split("test").entries == test
    assert scoring.text is not None
    np.testing.assert_array_equal(scoring.text.tokens, base.text.tokens)
    assert (training.T, scoring.T) == (base.T, base.T)


def test_the_demo_has_paraphrases_in_other_words():
    assert PARAPHRASES.keys() == PROMPTS.keys()
    used = {prompt for prompts in PROMPTS.values() for prompt in prompts}
    for name, prompts in PARAPHRASES.items():
        assert len(prompts) == len(PROMPTS[name]) and not used & set(prompts), name


def test_flags_of_the_text_benchmark(tmp_path, capsys):
    command = ["text", "--output", str(tmp_path)]
    with pytest.raises(
        InputError, match="'mil_ranking' must be one of vadclip, dsanet"
    ):
        benchmark.main([*command, "--models", "mil_ranking"])
    with pytest.raises(InputError, match="--conditions none: 'none' must be one of"):
        benchmark.main([*command, "--conditions", "none"])
    for flags in (["--held_out=Fire"], [f"--paraphrases={tmp_path / 'card.json'}"]):
        with pytest.raises(InputError, match="has no effect without the condition"):
            benchmark.main([*command, "--conditions=permuted", *flags])
    with pytest.raises(InputError, match="--check requires --markdown"):
        benchmark.main([*command, "--check"])
    page = tmp_path / "page.md"
    page.write_text("# No lines for results\n")
    with pytest.raises(InputError, match="page.md: expected one line"):
        benchmark.main([*command, "--markdown", str(page)])
    with pytest.raises(InputError, match="no results of benchmark text here"):
        benchmark.main([*command, "--check", "--markdown", str(tmp_path / "a.md")])


@pytest.mark.parametrize("part", ["text", "repro"])
def test_an_empty_dataset_is_not_the_default_one(part, tmp_path):
    command = [part, "--models=vadclip", f"--output={tmp_path}"]
    with pytest.raises(InputError, match="--datasets is empty; pass names"):
        benchmark.main([*command, "--datasets="])
    with pytest.raises(InputError, match="--datasets demo, has an empty name"):
        benchmark.main([*command, "--datasets=demo,"])
    assert not list(tmp_path.iterdir())


def test_the_text_benchmark_takes_no_base_classes(tiny, tmp_path):
    command = ["text", "--models=vadclip", f"--datasets={tiny.path}"]
    folders = [f"--output={tmp_path / 'results'}", f"--runs={tmp_path / 'runs'}"]
    with pytest.raises(InputError, match="base_classes contradicts the conditions"):
        benchmark.main([*command, *folders, "--config.data.base_classes=Fire"])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_tiny_benchmark_from_training_to_table(tiny, tmp_path, capsys):
    flags = [f for f in tiny.flags("vadclip") if not f.startswith("--config=")]
    page = tmp_path / "page.md"
    page.write_text("# T\n<!-- results:begin -->\n<!-- results:end -->\n")
    command = [
        *("text", "--models", "vadclip", "--datasets", str(tiny.path)),
        *("--seeds", "2", "--together", "--held_out", "Fight"),
        *("--output", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")),
        *("--markdown", str(page)),
    ]
    assert benchmark.main([*command, *flags]) == 0
    out = capsys.readouterr().out
    assert "has no paraphrases" in out and "vadclip on own" in out

    (file,) = (tmp_path / "results").rglob("*.json")
    assert str(tmp_path) not in file.read_text()  # no path of this machine
    conditions = read_json(file)["conditions"]
    assert list(conditions) == [
        *("trained", "permuted", "permuted_at_test", "random_tower"),
        "held_out Fight",
    ]
    # The trained rows are those of the runs, and words alone move no anomaly score.
    trained = conditions["trained"]["metrics"]
    for i, auc in enumerate(trained["auc"]["seeds"]):
        folder = tmp_path / "runs" / "vadclip-own" / "trained" / f"seed{i}"
        results = read_json(folder / "results.json")
        assert auc == pytest.approx(results["auc"], abs=1e-6)
        own = trained["map_avg_clean"]["seeds"][i]
        assert own == pytest.approx(results["map_avg_clean"], abs=1e-6)
    at_test = conditions["permuted_at_test"]["metrics"]["auc"]["difference"]
    assert at_test["mean"] == 0 and at_test["interval"] == [0, 0]
    held_out = conditions["held_out Fight"]["metrics"]
    assert {"class_ap/Fight", "class_naming/Fight"} <= held_out.keys()

    # Finished trainings are kept; the page has the tables.
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.json")}
    assert benchmark.main([*command, *flags]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in before}
    text = page.read_text()
    assert "| held out Fight |" in text and "| Fight | AP of the class |" in text
    check = ["text", "--output", str(tmp_path / "results"), "--check"]
    check += ["--markdown", str(page)]
    assert benchmark.main(check) == 0
    page.write_text(text.replace("| trained |", "| other |"))
    assert benchmark.main(check) == 1


def test_cells_of_the_table():
    metric = text_table.TextMetric.model_validate(
        {
            "mean": 0.5,
            "std": None,
            "difference": {"mean": -0.1, "interval": [-0.2, -0.05]},
        }
    )
    result = text_table.TextResults.model_validate(
        {
            "model": "vadclip",
            "dataset": "demo",
            "protocol": "clean",
            "seeds": [0],
            "conditions": {
                "trained": {
                    "held_out": "",
                    "metrics": {"auc": {"mean": 0.6, "std": 0.01}},
                },
                "permuted": {"held_out": "", "metrics": {"auc": metric.model_dump()}},
            },
        }
    )
    text = text_table.markdown([result])
    assert "| trained | 60.00 ± 1.00 |" in text
    assert "| permuted | **-10.00 [-20.00, -5.00]** |" in text
    assert "**" not in text_table.plain(result)


def test_paraphrases_are_the_demos_or_a_cards(tiny, card, tmp_path):
    assert text_benchmark.read_paraphrases(None, card) is None
    demo = dataclasses.replace(
        card,
        name="demo",
        classes=tuple(ClassCard(n, tuple(p)) for n, p in PROMPTS.items()),
    )
    found = text_benchmark.read_paraphrases(None, demo)
    assert found is not None and found.class_names == demo.class_names
    with pytest.raises(InputError, match="no paraphrase of Fi"):
        text_benchmark.read_paraphrases(None, dataclasses.replace(card, name="demo"))
