"""`prepare --audit`: wrong labels come first, judged by models that didn't see them."""

import csv
import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from audit_toy import Toy, toy_records, write_run, write_toy

from wsvad_jax import prepare
from wsvad_jax.audit import cross_validation
from wsvad_jax.data.dataset import open_dataset
from wsvad_jax.training.checkpoints import Checkpoints
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Toy:
    """The dataset and the run, which tests only read."""
    root = tmp_path_factory.mktemp("toy")
    dataset = write_toy(root / "data")
    return Toy(dataset, write_run(root / "run", dataset))


@pytest.fixture(scope="module")
def audited(toy) -> Toy:
    """The same with a finished audit of three folds."""
    words = [str(toy.dataset), "--audit", str(toy.run), "--folds", "3", "--quiet"]
    assert prepare.main(words) == 0
    return toy


def rows(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_wrong_labels_are_first(audited):
    found = rows(audited.output / "audit.csv")
    assert {row["video"] for row in found[:2]} == {"v02", "v05"}
    assert [row["disputed"] for row in found[:2]] == ["True", "True"]
    assert found[-1]["disputed"] == "False" and len(found) == 24
    by_name = {row["video"]: row for row in found}
    assert by_name["v02"]["label"] == "Fight" and by_name["v02"]["model"] == "normal"
    assert by_name["v05"]["label"] == "Normal" and by_name["v05"]["model"] == "abnormal"
    # The fight is at snippets 3 to 6, at one snippet per second.
    start, end = map(float, by_name["v05"]["moments_s"].split(";")[0].split("-"))
    assert 3 <= start < end <= 7


def test_json_says_the_same_and_what_it_rests_on(audited):
    document = read_json(audited.output / "audit.json")
    table = rows(audited.output / "audit.csv")
    disputed = sum(row["disputed"] == "True" for row in table)
    assert 2 <= disputed <= 6 and document["disputed"] == disputed
    assert (document["videos"], document["folds"]) == (24, 3)
    assert document["video_auc"] < 1
    tops = [entry["video"] for entry in document["labels"][:2]]
    assert tops == [row["video"] for row in table[:2]]
    assert "copies" in document["notes"][0]  # without videos


def test_the_page_is_whole_and_honest(audited):
    page = (audited.output / "audit.html").read_text()
    disputed = read_json(audited.output / "audit.json")["disputed"]
    assert f"{disputed} of 24 training labels are disputed" in page
    assert "wrong label" not in page and "No label was changed" in page
    assert not re.findall(
        r'(?:src|href)="(?!data:)[^"]', page
    )  # nothing from elsewhere
    first = rows(audited.output / "audit.csv")[0]["video"]
    other = {"v02": "v05", "v05": "v02"}[first]
    assert 0 < page.index(first) < page.index(other)


def test_the_model_of_a_fold_does_not_train_on_it(audited):
    from wsvad_jax.experiment.build import open_experiment
    from wsvad_jax.experiment.config import load_config
    from wsvad_jax.training.sampler import held_out_mask, open_batch_sampler

    config = load_config(f"mil_ranking:{audited.dataset}")
    config.clean.held_out = 0.2
    experiment = dataclasses.replace(
        open_experiment(config), left_out=frozenset((0, 1, 2, 7))
    )
    sampler = open_batch_sampler(experiment)
    used = {int(sampler.packed.index[row]) for row in sampler.rows}
    selecting = set(np.flatnonzero(held_out_mask(experiment, sampler.packed)))
    assert selecting and not used & selecting
    assert used | selecting == set(range(24)) - {0, 1, 2, 7}


def test_scores_are_those_of_the_models_left_there(audited):
    from wsvad_jax.detection.detector import Detector

    split = open_dataset(audited.dataset).split("train")
    fold = read_json(audited.output / "folds.json")["fold"]
    folder = audited.output / "folds"
    detector = Detector(folder / "fold1" / "model", progress=False)
    inside = [i for i, e in enumerate(split.entries) if fold[e.video] == 1]
    stored = cross_validation.read_scores(folder / "fold1")
    assert len(inside) == len(stored) == 8
    found = detector.score(split[inside[2]].features).anomaly
    np.testing.assert_allclose(found, stored[2].anomaly, atol=1e-5)


def test_again_trains_nothing(audited, capsys):
    before = (audited.output / "folds" / "fold0" / "scores.npz").stat().st_mtime_ns
    first = (audited.output / "audit.csv").read_text()
    words = [str(audited.dataset), "--audit", str(audited.run), "--folds", "3"]
    assert prepare.main(words) == 0
    assert "fold 1 of 3" not in capsys.readouterr().out
    assert (audited.output / "audit.csv").read_text() == first
    after = (audited.output / "folds" / "fold0" / "scores.npz").stat().st_mtime_ns
    assert after == before


def test_an_interrupted_fold_resumes(audited, tmp_path, monkeypatch, capsys):
    """From the fold's last checkpoint, and to the same audit."""
    run = write_run(tmp_path, audited.dataset, "checkpoint_every_steps=20")
    words = [str(audited.dataset), "--folds", "3", "--audit", str(run)]

    # Ctrl-C behind the second fold's checkpoint of step 20.
    save = Checkpoints.save

    def save_and_stop(self, step, *args, **kw):
        save(self, step, *args, **kw)
        if step == 20 and self.directory.parent.name == "fold1":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            prepare.main(words)
    assert not (run / "audit" / "audit.csv").exists()
    done = (run / "audit/folds/fold0/scores.npz").stat().st_mtime_ns

    capsys.readouterr()
    assert prepare.main(words) == 0
    out = capsys.readouterr().out
    assert "fold1 at step 20 of 40" in out and "fold 1 of 3" not in out
    assert (run / "audit/folds/fold0/scores.npz").stat().st_mtime_ns == done
    whole = (audited.output / "audit.csv").read_text()
    assert (run / "audit" / "audit.csv").read_text() == whole


def test_unlabelled_videos_are_ranked(audited, tmp_path):
    folder = tmp_path / "neu ö"
    folder.mkdir()
    split = open_dataset(audited.dataset).split("train")
    normal, fire = split[0].features[0], split[1].features[0]
    np.save(folder / "normal.npy", normal)
    np.save(folder / "fire.npy", fire)
    np.save(folder / "between.npy", (normal[:12] + fire[:12]) / 2)
    np.save(folder / "v03.npy", normal)  # has a label
    np.save(folder / "bad.npy", np.zeros((4, 3), np.float32))
    output = tmp_path / "audit"
    shutil.copytree(audited.output, output)
    words = [str(audited.dataset), "--audit", str(audited.run), "--folds", "3"]
    words += ["--output", str(output), "--unlabelled", str(folder)]
    assert prepare.main(words) == 3  # one input could not be read
    found = rows(output / "unlabelled.csv")
    assert {row["video"] for row in found} == {"normal", "fire", "between"}
    uncertainty = [float(row["uncertainty"]) for row in found]
    assert uncertainty == sorted(uncertainty, reverse=True)
    abnormal = {row["video"]: float(row["abnormal"]) for row in found}
    assert abnormal["normal"] < 0.5 < abnormal["fire"]
    assert abnormal["normal"] <= abnormal["between"] <= abnormal["fire"]
    notes = " ".join(read_json(output / "audit.json")["notes"])
    assert "1 video of --unlabelled" in notes


def test_corrected_labels_start_a_new_audit(audited, tmp_path, capsys):
    output = tmp_path / "audit"
    shutil.copytree(audited.output, output)
    state = read_json(output / "folds.json")
    state["labels"] = "other"
    (output / "folds.json").write_text(json.dumps(state))
    words = [str(audited.dataset), "--audit", str(audited.run), "--folds", "2"]
    assert prepare.main([*words, "--output", str(output)]) == 0
    assert "the number of folds and the labels changed" in capsys.readouterr().err
    assert (output / "previous-1" / "audit.csv").is_file()
    assert read_json(output / "audit.json")["folds"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--audit", ""], "--audit is empty"),
        (["--audit", "nosuch"], "no such folder; pass the workdir"),
        (["--audit", "RUN/.."], "no run there"),
        (["--audit", "RUN", "--folds", "13"], "but there are 12; pass --folds 12"),
        (
            ["--audit", "RUN", "--clip", "x"],
            "--clip has no effect with --audit without --unlabelled",
        ),
        (["--audit", "RUN", "--name", "x"], "--name has no effect with --audit"),
        (["--audit", "RUN", "--check"], "--check has no effect with --audit"),
        (["--audit", "RUN", "--slack", "0"], "--slack has no effect"),
        (["--audit", "RUN", "--videos", "nosuch"], "nosuch: no such file"),
        (["--audit", "RUN", "--unlabelled", "nosuch"], "nosuch"),
        (["--audit", "RUN", "--output", "RUN"], "is not empty and holds no audit"),
        (["--folds", "3"], "--folds has no effect with a preparation"),
        (["--output", "x"], "they belong to --audit RUN"),
    ],
)
def test_careless_flags(toy, words, message):
    words = [word.replace("RUN", str(toy.run)) for word in words]
    with pytest.raises(InputError, match=message):
        prepare.main([str(toy.dataset), *words])
    assert not toy.output.exists() or (toy.output / "audit.csv").is_file()


def test_a_run_of_another_dataset(toy, tmp_path):
    other = write_toy(tmp_path / "data", name="other")
    with pytest.raises(InputError, match="was trained on .*, not on"):
        prepare.main([str(other), "--audit", str(toy.run)])
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="which was not made from"):
        prepare.main([str(tmp_path / "folder"), "--audit", str(toy.run)])
    gone = write_run(tmp_path / "gone", tmp_path / "deleted" / "1.0.0")
    with pytest.raises(InputError, match="is not prepared here"):
        prepare.main([str(tmp_path / "folder"), "--audit", str(gone)])


@pytest.mark.slow
def test_an_audited_video_cannot_change_its_own_judge(tmp_path):
    """Whatever a video shows and its label says, the model of its fold is the same."""
    digests = []
    for change in (False, True):
        records = toy_records()
        if change:
            features = np.flip(records[2].features, 1) + np.float16(1)
            records[2] = dataclasses.replace(records[2], features=features)
        dataset = write_toy(tmp_path / f"data{change}", records)
        run = write_run(tmp_path / f"run{change}", dataset)
        assert prepare.main([str(dataset), "--audit", str(run), "--folds", "3"]) == 0
        toy = Toy(dataset, run)
        fold = read_json(toy.output / "folds.json")["fold"]
        digests.append(
            {
                f: read_json(toy.output / f"folds/fold{f}/model/meta.json")["digest"]
                for f in range(3)
            }
        )
    own = fold["v02"]
    assert digests[0][own] == digests[1][own]
    assert all(digests[0][f] != digests[1][f] for f in range(3) if f != own)
