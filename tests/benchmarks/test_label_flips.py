"""`benchmark flips`: which labels are flipped, precision at k, tables and files."""

import numpy as np
import pytest
from audit_toy import CHANGES, TRUTH, toy_record, write_toy

from wsvad_jax import benchmark
from wsvad_jax.audit.disputes import kind_disputes
from wsvad_jax.benchmarks import label_flips, label_flips_table
from wsvad_jax.data.dataset import open_dataset
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("flips"))


def test_a_share_of_the_labels_is_flipped_in_memory(dataset):
    whole = open_dataset(dataset)
    other, flipped = label_flips.with_flipped_labels(whole, 0.25, seed=3)
    assert flipped.sum() == 6 and len(flipped) == 24

    before, after = whole.split("train").entries, other.split("train").entries
    for old, new, wrong in zip(before, after, flipped, strict=True):
        assert (old.label != new.label) == wrong
        assert ((old.label == (0,)) != (new.label == (0,))) == wrong
    assert other.split("test").entries == whole.split("test").entries
    assert open_dataset(dataset).split("train").entries == before


def test_the_seed_draws_the_flips(dataset):
    whole = open_dataset(dataset)
    first, again, other = (
        label_flips.with_flipped_labels(whole, 0.25, seed)[1] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_precision_counts_flips_among_the_first():
    # Videos 3 and 4 are on the wrong side of a model that knows the truth.
    labels = [(0,)] * 4 + [(1,)] * 4
    scores = np.array([0.1, 0.2, 0.3, 0.9, 0.05, 0.7, 0.8, 0.85])
    ranked = kind_disputes(labels, np.zeros(8, int), scores)
    flipped = np.isin(np.arange(8), (3, 4))
    assert label_flips.precision(ranked, flipped) == {"5": 2 / 5, "flipped": 1.0}
    assert label_flips.precision(ranked, ~flipped) == {"5": 3 / 5, "flipped": 4 / 6}


RESULT = label_flips_table.FlipResults.model_validate(
    {
        "model": "mil_ranking",
        "dataset": "toy",
        "videos": 24,
        "folds": 3,
        "overrides": {"clean.steps": 40},
        "seeds": [
            {"seed": s, "flipped": 2, "video_auc": auc} for s, auc in ((0, 0.8), (1, 1))
        ],
        "precision": {
            "5": {"mean": 0.3, "std": 0.1},
            "flipped": {"mean": 0.75, "std": None},
        },
    }
)


def test_the_table_has_the_chance_level_of_its_flips():
    text = label_flips_table.markdown([RESULT])
    assert "| mil_ranking | 30.00 ± 10.00 | 75.00 | 8.33 |" in text  # 2 of 24
    assert "| model | first 5 | first 2 | chance |" in text
    assert "2 of 24 labels flipped, 3 folds, 2 seeds with clean.steps=40" in text
    assert "video AUC of the judgements 0.900" in label_flips_table.plain(RESULT)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--flips", "0"], "expected between 0 and 0.5"),
        (["--flips", "0.01"], "flips none of 24"),
        (["--models", "foo"], "foo"),
        (["--folds", "20"], "pass --folds"),
        (["--check"], "--check requires --markdown"),
        (["--check", "--markdown", "README.md"], "--datasets, --runs have no effect"),
    ],
)
def test_careless_flags(dataset, tmp_path, words, message):
    words = ["--datasets", str(dataset), "--runs", str(tmp_path / "runs"), *words]
    with pytest.raises(InputError, match=message):
        benchmark.main(["flips", *words, "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_check_needs_results(tmp_path):
    words = ["flips", "--output", str(tmp_path), "--check", "--markdown", "README.md"]
    with pytest.raises(InputError, match="no results of benchmark flips"):
        benchmark.main(words)


@pytest.mark.slow
def test_flips_of_a_dataset_are_found(tmp_path):
    # Every label is right before the flips, and every event is clear.
    records = [toy_record(i, c, c, clear=True) for i, c in enumerate(2 * TRUTH)]
    dataset = write_toy(tmp_path / "data", records)
    words = ["flips", "--datasets", str(dataset), "--seeds", "2", "--folds", "3"]
    words += ["--output", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
    page = tmp_path / "page.md"
    page.write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    changes = [f"--config.{change}" for change in CHANGES]
    assert benchmark.main([*words, "--markdown", str(page), *changes]) == 0

    (path,) = (tmp_path / "out").glob("*/mil_ranking.json")
    result = read_json(path)
    assert [seed["flipped"] for seed in result["seeds"]] == [5, 5]
    assert result["precision"]["5"]["mean"] >= 0.5  # chance: 0.1
    assert "| mil_ranking |" in page.read_text()
    check = ["flips", "--output", str(tmp_path / "out"), "--markdown", str(page)]
    assert benchmark.main([*check, "--check"]) == 0
