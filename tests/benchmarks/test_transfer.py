"""Transfer: what is refused, class words of the test set, and a whole benchmark."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from wsvad_jax import benchmark
from wsvad_jax.benchmarks import transfer, transfer_table
from wsvad_jax.benchmarks.transfer_scores import scored_test_set, scores_path
from wsvad_jax.data.cards import ClassCard
from wsvad_jax.data.dataset import open_dataset
from wsvad_jax.evaluation.scorer import Scorer
from wsvad_jax.experiment.build import open_experiment
from wsvad_jax.experiment.other_data import check_same_features, with_test_set
from wsvad_jax.prepare import prepare
from wsvad_jax.results.published_transfer import FILE, NOT_FOUND, published_cells
from wsvad_jax.training.run import train_experiment
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json


@pytest.fixture(scope="module")
def renamed(tiny, tmp_path_factory):
    """The tiny dataset under another name, with other names of its classes."""
    folder = tmp_path_factory.mktemp("renamed") / "street"
    shutil.copytree(tiny.root / "own", folder)
    # Their order stays, on which the held-out videos depend.
    new = {"Fight": "Brawl", "Fire": "Burn"}
    for name in ("train.csv", "test.csv", "test_segments.json"):
        text = (folder / name).read_text()
        for old, word in new.items():
            text = text.replace(old, word)
        (folder / name).write_text(text)
    return open_dataset(prepare(str(folder), data_dir=str(folder.parent / "data")))


@pytest.fixture(scope="module")
def mil(tiny):
    return open_experiment(tiny.config("mil_ranking"))


def test_a_model_reads_the_words_of_the_test_set(tiny, renamed):
    training = open_experiment(tiny.config("vadclip"))
    testing = with_test_set(training, renamed)
    assert testing.dataset.card.class_names == ("Normal", "Brawl", "Burn")
    assert testing.text is not None and training.text is not None
    assert not np.array_equal(testing.text.tokens, training.text.tokens)
    # All else is the training's: windows, and the text tower whatever the card names.
    assert testing.T == training.T
    assert testing.text_tower_id == training.text_tower_id
    foreign = dataclasses.replace(renamed.card, clip="another/clip")
    other = with_test_set(training, dataclasses.replace(renamed, card=foreign))
    assert other.text_tower_id == training.text_tower_id


def test_a_model_without_words_scores_other_classes(mil, renamed):
    testing = with_test_set(mil, renamed)
    assert testing.text is None and testing.spec is mil.spec
    assert list(testing.dataset.splits) == ["test"]


def test_features_that_differ_are_refused_by_the_names_of_both_sets(mil, renamed):
    def changed(**values):
        protocol = dataclasses.replace(renamed.protocol, **values)
        return dataclasses.replace(renamed, protocol=protocol)

    wide = dataclasses.replace(renamed, width=7)
    with pytest.raises(InputError, match="own is trained on, street is scored.* 7;"):
        check_same_features(mil, wide)
    card = dataclasses.replace(renamed.card, stride=8)
    with pytest.raises(InputError, match="own has 16 frames, one of street 8"):
        check_same_features(mil, dataclasses.replace(renamed, card=card))

    known = dataclasses.replace(mil.dataset.protocol, encoder="a", frame="first")
    dataset = dataclasses.replace(mil.dataset, protocol=known)
    trained = dataclasses.replace(mil, dataset=dataset)
    with pytest.raises(InputError, match="street.*another way: encoder b instead of a"):
        check_same_features(trained, changed(encoder="b"))
    with pytest.raises(InputError, match="frame middle instead of first"):
        check_same_features(trained, changed(frame="middle"))


def test_scores_are_kept_until_run_or_test_set_change(mil, renamed, tmp_path):
    workdir = tmp_path / "run"
    train_experiment(mil, workdir)
    testing = with_test_set(mil, renamed)
    scorer = Scorer(testing)
    first = scored_test_set(testing, scorer, workdir)
    path = scores_path(workdir, "street")
    before = path.stat().st_mtime_ns

    again = scored_test_set(testing, scorer, workdir)
    assert path.stat().st_mtime_ns == before
    for a, b in zip(first, again, strict=True):
        assert a.video == b.video and a.segments == b.segments
        np.testing.assert_array_equal(a.anomaly, b.anomaly)

    # A damaged file, and the scores of other records, are not read.
    path.write_bytes(path.read_bytes()[:50])
    assert len(scored_test_set(testing, scorer, workdir)) == len(first)
    assert path.stat().st_mtime_ns > before
    before = path.stat().st_mtime_ns
    changed = dataclasses.replace(testing.dataset, content="0" * 64)
    other = dataclasses.replace(testing, dataset=changed)
    scored_test_set(other, scorer, workdir)
    assert path.stat().st_mtime_ns > before


def scores(videos, values):
    return transfer.TestScores(tuple(videos), {"auc": np.array([values])})


def test_a_drop_is_paired_where_the_test_sets_have_the_same_videos():
    own = scores("abc", [0.9, 0.8, 1.0])
    same, other = scores("abc", [0.7, 0.6, 0.8]), scores("xyz", [0.7, 0.6, 0.8])
    rows = {"a": {"a": own, "b": same, "c": other}}
    drop = transfer._metrics("a", "b", rows)["auc"]["drop"]
    assert drop["mean"] == pytest.approx(-0.2)
    np.testing.assert_allclose(drop["interval"], [-0.2, -0.2])
    drop = transfer._metrics("a", "c", rows)["auc"]["drop"]
    assert drop["mean"] == pytest.approx(-0.2)
    assert drop["interval"][0] < -0.3 and drop["interval"][1] > -0.1
    assert "drop" not in transfer._metrics("a", "a", rows)["auc"]


def test_published_numbers_have_a_source_or_say_that_they_have_none():
    for cell in published_cells():
        assert (cell.arxiv is not None) != (cell.source == NOT_FOUND)
        assert cell.confirmed or "not" in cell.source
    pairs = {(c.model, c.train, c.test): c.value for c in published_cells()}
    assert pairs["ovvad", "xd", "ucf"] == 82.42
    assert pairs["vadclip", "ucf", "ucf"] == 88.02
    assert len(read_json(FILE)["cells"]) < len(published_cells())


def row(train, auc, **extra):
    metric = {"mean": auc, "std": 0.01, "interval": [auc - 0.1, auc + 0.1], **extra}
    test = {"headline": "auc", "videos": 9, "metrics": {"auc": metric}}
    return {
        "model": "vadclip",
        "train": train,
        "protocol": "clean",
        "seeds": [0, 1],
        "videos": 9,
        "tests": {"ucf": test},
    }


def test_cells_without_a_run_say_so():
    change = {"mean": -0.2, "interval": [-0.3, -0.1]}
    rows = [
        transfer_table.TransferRow.model_validate(r)
        for r in (row("xd", 0.7, difference=change), row("ucf", 0.9))
    ]
    rows[1].tests["b"] = rows[0].tests["ucf"]
    text = transfer_table.markdown(rows)
    assert "| vadclip | xd, 2 seeds |" in text and "| not run |" in text
    assert "70.00 ± 1.00 [60.0, 80.0]" in text
    assert "*90.00 ± 1.00 [80.0, 100.0]*" in text
    assert "**-20.0 [-30.0, -10.0]**" in text
    # Ours stands beside the published number; other cells are not run.
    assert "| vadclip | xd | ucf | frame AUC | 80.16 | 70.00 ± 1.00 |" in text
    assert "| ovvad | xd | ucf | frame AUC | 82.42 | not run |" in text


def test_careless_flags(tiny, renamed, tmp_path):
    command = ["transfer", "--models", "mil_ranking", "--output", str(tmp_path)]
    command += ["--data_dir", str(tmp_path / "data")]
    own = str(tiny.path)
    for flags, words in (
        ([], "--train is missing"),
        (["--train", own], "--test is missing"),
        (["--train", f"{own},", "--test", own], "--train .*has an empty name"),
        (["--train", own, "--test", "nowhere"], "no dataset 'nowhere'"),
        # No demo world is built for a run that can't begin.
        (["--train", "demo_plaza", "--test", "nowhere"], "no dataset 'nowhere'"),
        (["--train", own, "--test", "demo_plaza", "--config.no=1"], "no such key"),
        (["--train", "demo_", "--test", own], "no dataset 'demo_'"),
        (["--train", own, "--test", str(tiny.root / "own")], "not a prepared dataset"),
        (["--train", own, "--test", "xd"], "dataset xd is not prepared there"),
        (["--train", own, "--test", own, "--models", ""], "must be one of"),
        (["--train", own, "--test", own, "--seeds", "0"], "at least one seed"),
        (["--train", own, "--test", own, "--seeds", "1,1"], "duplicate seed"),
        (["--train", own, "--test", own, "--models", "zero_shot"], "must be one of"),
        (["--train", own, "--test", own, "--config.no=1"], "no such key"),
        (["--check"], "--check requires --markdown"),
        (["--check", "--markdown", "a.md", "--train", own], "--train.* have no effect"),
        (["--check", "--markdown", "a.md", "--together"], "--together have no effect"),
    ):
        with pytest.raises(InputError, match=words):
            benchmark.main([*command, *flags])
    check = ["transfer", "--output", str(tmp_path), "--check", "--markdown", "a.md"]
    with pytest.raises(InputError, match="no results of benchmark transfer here"):
        benchmark.main(check)
    assert not list(tmp_path.iterdir())


def test_two_datasets_of_one_name_are_refused(tiny, tmp_path):
    shutil.copytree(tiny.path, tmp_path / "copy" / tiny.path.name)
    both = f"{tiny.path},{tmp_path / 'copy'}"
    options = ["--output", str(tmp_path / "out"), "--models", "mil_ranking"]
    with pytest.raises(InputError, match="are both named own; pass one"):
        benchmark.main(["transfer", "--train", both, "--test", both, *options])


@pytest.mark.slow
def test_a_benchmark_from_training_to_table(tiny, renamed, tmp_path, capsys):
    flags = tiny.flags("mil_ranking", clean__steps=2)
    flags = [f for f in flags if not f.startswith("--config=")]
    page = tmp_path / "page.md"
    page.write_text("# T\n<!-- results:begin -->\n<!-- results:end -->\n")
    both = f"{tiny.path},{renamed.path}"
    output = ["--output", str(tmp_path / "results"), "--markdown", str(page)]
    command = [
        *("transfer", "--models", "mil_ranking", "--train", both, "--test", both),
        *("--seeds", "2", "--together", "--runs", str(tmp_path / "runs"), *output),
    ]
    assert benchmark.main([*command, *flags]) == 0
    out = capsys.readouterr().out
    assert "mil_ranking trained on street: 2 of 2" in out

    own, street = (
        read_json(tmp_path / f"results/mil_ranking/{name}.json")
        for name in ("own", "street")
    )
    assert str(tmp_path) not in json.dumps([own, street])
    # The sets differ by the names of their classes, which this model doesn't read.
    cell = own["tests"]["street"]["metrics"]["auc"]
    assert cell["seeds"] == own["tests"]["own"]["metrics"]["auc"]["seeds"]
    assert cell["difference"]["mean"] == pytest.approx(0, abs=1e-6)
    assert cell["drop"]["interval"] == [0, 0]
    for seed, auc in enumerate(own["tests"]["own"]["metrics"]["auc"]["seeds"]):
        run = tmp_path / "runs" / "mil_ranking-own" / f"seed{seed}" / "results.json"
        assert auc == pytest.approx(read_json(run)["auc"], abs=1e-6)

    # Finished cells are kept, and the page is checked against the files.
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.npz")}
    assert benchmark.main([*command, *flags]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in before}
    check = ["transfer", *output, "--check"]
    assert benchmark.main(check) == 0
    page.write_text(page.read_text().replace("own, 2 seeds", "own, 3 seeds"))
    assert benchmark.main(check) == 1


def test_class_cards_keep_their_prompts(renamed):
    assert ClassCard("Burn", ("burn",)) in renamed.card.classes
