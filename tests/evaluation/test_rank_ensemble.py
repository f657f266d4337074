"""`evaluate --with`: what it writes, where it shows, and which runs it refuses."""

import json
import shutil

import finished
import numpy as np
import pytest

from wsvad_jax import evaluate, report
from wsvad_jax.data.dataset import open_dataset
from wsvad_jax.results import run_data
from wsvad_jax.utils import program
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json
from wsvad_jax.weights.hub_model import load_checkpoint


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Workdirs: two seeds of VadCLIP and a run of a model without classes."""
    root = tmp_path_factory.mktemp("members")
    path = finished.write_small(root)
    workdirs = []
    for seed, model in enumerate(("vadclip", "vadclip", "mil_ranking")):
        config = finished.recipe(model, str(path), seed)
        workdirs.append(finished.write_run(root / f"{model}-{seed}", config))
        write_json(workdirs[-1] / run_data.FILE, run_data.describe(open_dataset(path)))

    with np.load(workdirs[2] / "scores.npz") as arrays:
        kept = {k: v for k, v in arrays.items() if k.endswith("/anomaly")}
    np.savez(workdirs[2] / "scores.npz", **kept)
    return workdirs


def ensemble(workdir, *members, **flags):
    words = [f"--workdir={workdir}", *(f"--with={member}" for member in members)]
    words += [f"--{name}={value}" for name, value in flags.items()]
    return evaluate.main(words)


@pytest.fixture(scope="module")
def two(runs, tmp_path_factory):
    """The workdir of an ensemble of two runs, which tests only read."""
    out = tmp_path_factory.mktemp("two") / "out"
    assert ensemble(out, *runs[:2], smooth=3) == 0
    return out


def refused(capsys, run, *arguments) -> str:
    with pytest.raises(SystemExit) as e:
        program.run(lambda: run(*arguments))
    assert e.value.code == 2
    return capsys.readouterr().err


def test_what_is_written(runs, two):
    results = read_json(two / "results.json")
    words = "rank ensemble of 2 runs, smoothed over 3 snippets"
    assert results["selection"] == words
    assert results["ensemble"]["runs"] == 2 and results["ensemble"]["width"] == 3
    assert "vadclip clean seed 1" in results["ensemble"]["members"]

    # A rank has neither a threshold of one half nor the rules of events.
    assert not {"far", "events", "auc_align"} & results.keys()
    assert results["auc"] > 0.5 and results["map_avg"] is not None
    assert any("transductive" in text for text in results["remarks"])
    assert read_json(two / "curves.json")["accuracy"] is None
    assert (two / "report.png").is_file()

    with np.load(two / "scores.npz") as found, np.load(runs[0] / "scores.npz") as one:
        assert set(found.files) == {k for k in one.files if "_align" not in k}
        with np.load(runs[1] / "scores.npz") as other:
            mean = (one["b1/classes"] + other["b1/classes"]) / 2
        np.testing.assert_allclose(found["b1/classes"], mean)
        assert all(0 < found[k].min() <= found[k].max() < 1 for k in found.files)


def test_one_run_without_classes_leaves_no_map(runs, two, tmp_path):
    # An ensemble's earlier results may be replaced.
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    assert ensemble(tmp_path, runs[0], runs[2]) == 0
    results = read_json(tmp_path / "results.json")
    assert results["model"] == "vadclip + mil_ranking" and results["map"] is None
    assert any("no mAP" in text for text in results["remarks"])


def test_tables_show_it_in_a_row_of_its_own(runs, two, tmp_path, capsys):
    assert ensemble(tmp_path / "three", *runs) == 0
    inputs = [*map(str, runs[:2]), str(two), str(tmp_path / "three")]
    folder = tmp_path / "tables"
    words = [f"--output={folder}", f"--collect={tmp_path / 'kept'}"]
    assert report.main([*inputs, *words, f"--html={tmp_path / 'page.html'}"]) == 0

    lines = (folder / "report.md").read_text().splitlines()
    own = [line for line in lines if "rank ensemble of" in line]
    assert [line.split(" | ")[2] for line in own] == ["–", "–"]
    (single,) = [line for line in lines if "trained here, clean" in line]
    assert single.split(" | ")[2] == "2"
    assert "rank ensemble of 3 runs" in (tmp_path / "page.html").read_text()

    # Collected files make the same tables.
    assert report.main([str(tmp_path / "kept"), f"--output={tmp_path / 'again'}"]) == 0
    assert (tmp_path / "again/report.md").read_text().splitlines() == lines

    page = tmp_path / "short.md"
    page.write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    assert report.main([*inputs, f"--markdown={page}", "--short"]) == 0
    assert "| rank ensemble |" in page.read_text()


def test_it_has_no_model_to_detect_with(two):
    with pytest.raises(InputError, match="rank ensemble of 2 runs, .*has no model"):
        load_checkpoint(two)


def copied(runs, tmp_path, change):
    """Two runs; the second is a copy that `change` has damaged."""
    copy = shutil.copytree(runs[1], tmp_path / "copy")
    change(copy)
    return [runs[0], copy]


def set_key(file, **values):
    return lambda run: write_json(run / file, read_json(run / file) | values)


def other_snippets(run):
    with np.load(run / "scores.npz") as arrays:
        longer = {k: np.concatenate([v, v[-1:]]) for k, v in arrays.items()}
    np.savez(run / "scores.npz", **longer)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: (run / "results.json").unlink(), "so this run is not finished"),
        (lambda run: (run / "scores.npz").unlink(), "scores.npz: no such file"),
        (lambda run: (run / "data.json").unlink(), "unknown content, now"),
        (set_key("data.json", content="0" * 64), "other videos, labels or features"),
        (set_key("results.json", dataset="ucf"), "copy scored ucf, but"),
        (other_snippets, "score again with evaluate"),
        (lambda run: (run / "scores.npz").write_text("no"), "no file of scores"),
    ],
)
def test_runs_that_do_not_fit(runs, tmp_path, capsys, change, said):
    members = copied(runs, tmp_path, change)
    err = refused(capsys, lambda: ensemble(tmp_path / "out", *members))
    assert said in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_one_run_is_no_ensemble(runs, tmp_path, capsys):
    copy = shutil.copytree(runs[0], tmp_path / "copy")
    out = tmp_path / "out"
    (tmp_path / "link").symlink_to(runs[0])
    for members, said in (
        (runs[:1], "is a single run"),
        ([runs[0], tmp_path / "link"], "is given twice"),
        ([runs[0], copy], "have the same scores"),
        ([runs[0], tmp_path / "nothing"], "expected the workdir of a finished run"),
    ):
        assert said in refused(capsys, lambda m=members: ensemble(out, *m))
    assert not out.exists()


def test_results_of_a_run_are_not_replaced(runs, two, tmp_path, capsys):
    before = (runs[0] / "results.json").read_bytes()
    assert "holds a run" in refused(capsys, lambda: ensemble(runs[0], *runs[:2]))
    assert (runs[0] / "results.json").read_bytes() == before
    said = refused(capsys, lambda: ensemble(tmp_path / "x", runs[0], two))
    assert "is a rank ensemble itself" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--smooth=4"], "pass an odd number such as 3"),
        (["--smooth=0"], "no whole number"),
        (["--checkpoint=DIR"], "--checkpoint has no effect with --with"),
        (["--high=0.5", "--force"], "have no effect with --with"),
        (["--config.seed=1"], "unexpected argument '--config.seed=1'"),
    ],
)
def test_flags_that_do_not_fit(runs, tmp_path, capsys, words, said):
    members = [f"--with={run}" for run in runs[:2]]
    out = [f"--workdir={tmp_path / 'out'}"]
    assert said in refused(capsys, evaluate.main, [*out, *members, *words])
    assert not (tmp_path / "out").exists()


def test_smooth_without_runs(tmp_path, capsys):
    said = refused(capsys, evaluate.main, [f"--workdir={tmp_path}", "--smooth=3"])
    assert "--smooth requires --with" in said


def test_json_is_the_file(runs, tmp_path, capsys):
    words = [f"--workdir={tmp_path}", *(f"--with={run}" for run in runs[:2])]
    assert evaluate.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read_json(tmp_path / "results.json")
