"""`benchmark open_vocabulary`: its words, its flags, and a run on a tiny dataset."""

import dataclasses
import json

import numpy as np
import pytest

from wsvad_jax import benchmark
from wsvad_jax.benchmarks import open_vocabulary, open_vocabulary_table
from wsvad_jax.benchmarks.open_vocabulary_words import (
    in_order,
    list_words,
    shuffled_orders,
)
from wsvad_jax.experiment.build import open_experiment
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json


@pytest.mark.parametrize("classes", [3, 5, 9, 15])
@pytest.mark.parametrize("with_normal", [False, True])
def test_no_class_keeps_its_words(classes, with_normal):
    orders = shuffled_orders(classes, 4, with_normal=with_normal)
    assert orders == shuffled_orders(classes, 4, with_normal=with_normal)
    assert len(set(orders)) == len(orders) <= 4
    first = 0 if with_normal else 1
    for order in orders:
        assert sorted(order) == list(range(classes))
        assert order[:first] == tuple(range(first))
        assert all(i != old for i, old in enumerate(order[first:], first))


def test_few_classes_have_few_orders():
    assert shuffled_orders(3, 5, with_normal=False) == ((0, 2, 1),)
    assert shuffled_orders(2, 5, with_normal=True) == ((1, 0),)
    assert shuffled_orders(2, 5, with_normal=False) == ()  # one anomaly class
    assert len(shuffled_orders(5, 100, with_normal=False)) == 9
    assert len(shuffled_orders(16, 5, with_normal=True)) == 5


def test_words_in_another_order_are_those_of_another_card(tiny_text):
    moved = in_order(tiny_text, (0, 2, 1, 4, 3))
    rows = np.asarray(tiny_text.class_from_prompt)
    np.testing.assert_array_equal(moved.class_from_prompt[1], rows[2])
    np.testing.assert_array_equal(moved.class_from_prompt[3], rows[4])
    assert moved.tokens is tiny_text.tokens


def test_words_of_a_model(tiny):
    experiment = open_experiment(tiny.config("vadclip"))
    words = list_words(experiment, None, 5)
    assert [w.name for w in words] == ["own", "shuffled", "shuffled_with_normal"]
    assert words[0].texts == (experiment.text,)
    assert [len(w.texts) for w in words] == [1, 1, 2]

    # Other words are tokenized; their class order is the dataset's.
    card = experiment.dataset.card
    classes = tuple(dataclasses.replace(c, prompts=("a b",)) for c in card.classes)
    other = list_words(experiment, dataclasses.replace(card, classes=classes), 1)[1]
    assert other.name == "other_words"
    assert other.texts[0].tokens.shape[0] == len(classes)


def test_flags_that_are_refused(tiny, tmp_path):
    def refused(message: str, *flags: str) -> None:
        with pytest.raises(InputError, match=message):
            benchmark.main(
                [
                    *("open_vocabulary", "--output", str(tmp_path / "results")),
                    *("--runs", str(tmp_path / "runs"), *flags),
                ]
            )

    dataset = f"--dataset={tiny.path}"
    refused(
        "'mil_ranking' must be one of vadclip, dsanet, zero_shot",
        "--models=mil_ranking",
    )
    refused("--check requires --markdown", "--check")
    refused("--base names no class", "--base=")
    refused("--dataset is empty", "--dataset=", "--base=Fire")
    refused("--shuffles is 1000; expected at most 100", "--shuffles=1000")
    refused("--runs has no effect with --check", "--check", "--markdown=a.md")
    check = ["open_vocabulary", "--check", "--markdown=a.md", f"--output={tmp_path}"]
    with pytest.raises(InputError, match="no results of benchmark open_vocabulary"):
        benchmark.main(check)
    refused(
        r"--base: 'fir' is no class of own \(did you mean 'Fire'\?\)",
        dataset,
        "--base=fir",
    )
    refused("--base names all anomaly classes of own", dataset, "--base=Fire,Fight")
    refused("--base is published, but no split of own is known", dataset)
    refused(
        "config.data.base_classes is set by --base",
        *(dataset, "--base=Fire", "--config.data.base_classes=Fire"),
    )
    refused(
        "config.data.base_classes is set by --base",
        *(dataset, "--base=Fire", "--config.data.base_classes", "Fire"),
    )
    card = tmp_path / "card.json"
    words = [{"name": n, "prompts": ["a"]} for n in ("Normal", "Fire", "Smoke")]
    card.write_text(json.dumps({"name": "own", "classes": words}))
    refused(
        "its classes are not those of own, 'Fight' is in one of them only",
        *(dataset, "--base=Fire", f"--paraphrases={card}", "--models=vadclip"),
    )
    assert not (tmp_path / "runs").exists() and not (tmp_path / "results").exists()


def test_what_cannot_be_written_is_refused_first(tmp_path):
    """Trainings take hours, and their results are written after them."""

    def refused(message: str, *flags: str) -> None:
        command = ["open_vocabulary", "--runs", str(tmp_path / "runs"), *flags]
        with pytest.raises(InputError, match=message):
            benchmark.main(command)
        assert not (tmp_path / "runs").exists()

    page = tmp_path / "page.md"
    page.write_text("# No lines for results\n")
    new = f"--output={tmp_path / 'new'}"
    refused(
        "page.md: expected one line <!-- results:begin -->", new, f"--markdown={page}"
    )
    refused("page.md is a file; expected a folder", f"--output={page}")

    # The results of another benchmark would be replaced.
    other = tmp_path / "text" / "demo" / "vadclip.json"
    other.parent.mkdir(parents=True)
    other.write_text('{"model": "vadclip", "conditions": {}}')
    refused(
        "vadclip.json: .*; pass another --output folder",
        f"--output={other.parent.parent}",
    )
    assert read_json(other)["conditions"] == {}


def metric(mean: float, *interval: float) -> dict:
    difference = {"mean": mean, "interval": list(interval)} if interval else None
    return {"mean": mean, "std": 0.01, "difference": difference}


@pytest.fixture
def result() -> open_vocabulary_table.OpenVocabularyResults:
    groups = ("all", "base", "novel")
    own = {f"{key}/{g}": metric(0.5) for key in ("auc", "top1") for g in groups}
    moved = {key: metric(-0.1, -0.2, -0.05) for key in own}
    moved["auc/all"] = metric(0, 0, 0)
    return open_vocabulary_table.OpenVocabularyResults.model_validate(
        {
            "model": "vadclip",
            "dataset": "ucf",
            "protocol": "clean",
            "seeds": [0, 1],
            "base": ["Abuse"],
            "novel": ["Arson"],
            "split": "ours",
            "abnormal_test_videos": {"all": 3, "base": 1, "novel": 2},
            "trainings": {
                "base": {
                    "words": {
                        "own": {"shuffles": [], "metrics": own},
                        "shuffled": {"shuffles": [["Arson"]], "metrics": moved},
                    }
                },
                "all": {"words": {"own": {"shuffles": [], "metrics": own}}},
            },
        }
    )


def test_tables(result):
    text = open_vocabulary_table.markdown([result])
    assert (
        "**vadclip on ucf**, protocol clean, 2 seeds. Base classes: Abuse (1 test"
        in text
    )
    assert "| frame AUC | base classes | 50.00 ± 1.00 |" in text
    assert "| frame AUC | all classes | 50.00 ± 1.00 |" in text
    # The published rows carry their source.
    source = "published (https://arxiv.org/abs/2311.07042) | 86.40 | 93.80 | 88.20 |"
    assert f"| frame AUC | OVVAD, {source}" in text
    words = (
        "| shuffled, mean of 1 | +0.00 [+0.00, +0.00] | **-10.00 [-20.00, -5.00]** |"
    )
    assert words in text
    assert "**" not in open_vocabulary_table.plain(result)

    # The papers' numbers are of their own base classes.
    chosen = result.model_copy(update={"split": "chosen"})
    assert "published" not in open_vocabulary_table.markdown([chosen])
    assert "AP" not in [line.split(" | ")[0] for line in text.splitlines()]


@pytest.mark.slow
def test_a_tiny_run_from_training_to_table(tiny, tmp_path, capsys):
    changes = [f for f in tiny.flags("vadclip") if not f.startswith("--config=")]
    page = tmp_path / "page.md"
    page.write_text("# T\n<!-- results:begin -->\n<!-- results:end -->\n")
    command = [
        *("open_vocabulary", "--models=vadclip", f"--dataset={tiny.path}"),
        *("--base=fire", "--seeds=2", "--together", "--all_classes"),
        *("--output", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")),
        *("--markdown", str(page)),
    ]
    assert benchmark.main([*command, *changes]) == 0
    assert "own has no other words" in capsys.readouterr().out

    (file,) = (tmp_path / "results").rglob("*.json")
    assert str(tmp_path) not in file.read_text()  # no path of this machine
    found = read_json(file)
    assert (found["base"], found["novel"]) == (["Fire"], ["Fight"])
    base, whole = (found["trainings"][key]["words"] for key in ("base", "all"))
    assert list(base) == ["own", "shuffled", "shuffled_with_normal"]
    assert list(whole) == ["own"]

    # The own words' numbers are those of the runs.
    for i in (0, 1):
        (run,) = (tmp_path / "runs").glob(f"vadclip-own/Fire-*/seed{i}/results.json")
        groups = read_json(run)["open_vocabulary"]["groups"]
        for key in ("auc/all", "auc_align/novel", "top1/base", "map/novel"):
            name, group = key.split("/")
            own = base["own"]["metrics"][key]["seeds"][i]
            assert own == pytest.approx(groups[group][name], abs=1e-6)

    # Words move no score of the branch that reads none.
    for kind in ("shuffled", "shuffled_with_normal"):
        difference = base[kind]["metrics"]["auc/novel"]["difference"]
        assert difference["mean"] == 0 and difference["interval"] == [0, 0]
    assert base["shuffled"]["shuffles"] == [["Normal", "Fire", "Fight"]]
    assert "difference" in base["own"]["metrics"]["auc/novel"]

    # Finished trainings are kept; the page has the tables.
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.json")}
    assert benchmark.main([*command, *changes]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in before}
    text = page.read_text()
    assert "| shuffled, mean of 1 |" in text
    check = ["open_vocabulary", "--output", str(tmp_path / "results"), "--check"]
    check += ["--markdown", str(page)]
    assert benchmark.main(check) == 0
    page.write_text(text.replace("| own |", "| mine |"))
    assert benchmark.main(check) == 1


def test_a_folder_per_list_of_classes():
    names = ["Fire", "Fight", "Fire+Fight", "Fire Fight", "x" * 300, "x" * 301]
    folders = {open_vocabulary.file_stem_of(name) for name in names}
    assert len(folders) == len(names) and max(map(len, folders)) <= 60
