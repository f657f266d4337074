"""Tables come from the files, say how weights were picked, and travel without paths."""

import csv
import json
import statistics
import subprocess
import sys

import pytest
from finished import recipe, write_run

from wsvad_jax import report
from wsvad_jax.results import seeds as study
from wsvad_jax.results import tables
from wsvad_jax.results.published import PUBLISHED
from wsvad_jax.results.runs import find_runs, read_run
from wsvad_jax.results.seed_groups import BENCHMARKS, MODELS, group_by_recipe
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json

README = f"# Title\n\n{tables.BEGIN}\nold\n{tables.END}\n\nafter\n"


def write_runs(folder, model="vadclip", seeds=(0, 1, 2), *changes, dataset="small"):
    """Finished runs of one recipe in folder/MODEL-PROTOCOL-SEED…"""
    found = []
    for seed in seeds:
        config = recipe(model, f"{folder}/data/{dataset}/1.0.0", seed, *changes)
        name = "-".join([model, *changes, str(seed)])
        found.append(write_run(folder / name, config, dataset))
    return found


def read_groups(*paths):
    runs, summaries, _ = find_runs(paths)
    return group_by_recipe(runs, summaries)


def rows_of(path):
    """The cells of a Markdown file's tables, as {column: text}."""
    rows, columns = [], []
    for line in path.read_text().splitlines():
        cells = [c.strip() for c in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            columns = []
        elif not columns:
            columns = cells
        elif not line.startswith("| ---"):
            rows.append(dict(zip(columns, cells, strict=True)))
    return rows


def test_a_row_is_the_mean_over_its_seeds(tmp_path):
    runs = write_runs(tmp_path)
    assert report.main([str(tmp_path), "--output", str(tmp_path / "out")]) == 0
    (row,) = rows_of(tmp_path / "out" / "report.md")
    results = [read_json(run / "results.json") for run in runs]
    for key, column in (
        ("auc", "frame AUC"),
        ("map_avg_clean", "mAP AVG, anomaly classes"),
    ):
        values = [100 * r[key] for r in results]
        expected = f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"
        assert row[column] == expected
    assert row["seeds"] == "3" and row["steps"] == "100"
    assert row["weights"] == "trained here, clean: last weights"


def test_csv_has_every_metric_as_fraction(tmp_path):
    runs = write_runs(tmp_path, seeds=(0,))
    report.main([str(runs[0]), "--output", str(tmp_path)])
    with open(tmp_path / "report.csv", newline="") as f:
        (row,) = csv.DictReader(f)
    results = read_json(runs[0] / "results.json")
    for key in ("auc", "far", "recall@fpr0.05", "video_auc_align", "map_avg"):
        assert float(row[key]) == results[key]
    assert float(row["map@0.5"]) == results["map"][4]
    assert row["protocol"] == "clean" and row["auc_std"] == ""


def test_json_prints_the_rows_of_the_csv_file(tmp_path, capsys):
    runs = write_runs(tmp_path, seeds=(0,))
    assert report.main([str(runs[0]), "--json"]) == 0
    assert not (tmp_path / "report.csv").exists()  # nothing but standard output
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["auc"] == read_json(runs[0] / "results.json")["auc"]

    report.main([str(runs[0]), "--json", "--output", str(tmp_path)])
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"] == [row] and "report.md" in err
    with pytest.raises(InputError, match="--published.*--json alone"):
        report.main([str(runs[0]), "--json", "--published"])


def test_protocols_and_models_never_share_a_row(tmp_path):
    write_runs(tmp_path)
    write_runs(tmp_path, "vadclip", (0, 1), "protocol=paper")
    write_runs(tmp_path, "dsanet", (0,))
    report.main([str(tmp_path), "--output", str(tmp_path / "out")])
    rows = rows_of(tmp_path / "out" / "report.md")
    assert [(r["model"], r["weights"], r["seeds"]) for r in rows] == [
        ("vadclip", "trained here, clean: last weights", "3"),
        ("vadclip", "trained here, paper: selected on test", "2"),
        ("dsanet", "trained here, clean: last weights", "1"),
    ]


def test_other_recipes_are_rows_that_say_by_what_they_differ(tmp_path):
    write_runs(tmp_path)
    write_runs(tmp_path, "vadclip", (0, 1), "model.use_graph=False")
    # What doesn't bear on the numbers makes no row of its own.
    write_runs(tmp_path, "vadclip", (7,), "paper.epochs=3", "checkpoint_every_steps=5")
    groups = read_groups(tmp_path)
    assert {g.variant: g.seeds for g in groups} == {
        "model.use_graph=True": [0, 1, 2, 7],
        "model.use_graph=False": [0, 1],
    }
    rows = tables.tables(groups)["small"]
    assert "vadclip (model.use_graph=False)" in [row["model"] for row in rows]


def test_a_precision_that_the_machine_chose_is_that_precision(tmp_path):
    write_runs(tmp_path, "vadclip", (0, 1))
    chosen = write_runs(tmp_path, "vadclip", (2, 3), "model.dtype=auto")
    for run, dtype in zip(chosen, ("float32", "bfloat16"), strict=True):
        results = read_json(run / "results.json")
        write_json(run / "results.json", results | {"dtype": dtype})

    groups = read_groups(tmp_path)
    assert {g.variant: g.seeds for g in groups} == {
        "model.dtype=float32": [0, 1, 2],
        "model.dtype=bfloat16": [3],
    }
    assert [g.devices().endswith(", bfloat16") for g in groups] == [False, True]


def test_one_seed_twice_is_refused_but_one_folder_twice_is_not(tmp_path):
    runs = write_runs(tmp_path / "a")
    assert len(find_runs([tmp_path, runs[0], runs[0]])[0]) == 3
    write_runs(tmp_path / "b", seeds=(1,))
    with pytest.raises(InputError, match="are both seed 1 of one recipe"):
        read_groups(tmp_path)


def test_published_numbers_stand_beside_ours(tmp_path):
    write_runs(tmp_path, "vadclip", dataset="xd")
    report.main([str(tmp_path), "--output", str(tmp_path / "out")])
    rows = rows_of(tmp_path / "out" / "report.md")
    vadclip = [r for r in rows if r["model"] == "vadclip"]
    assert vadclip[0]["weights"].startswith("[published, CLIP features](https://")
    assert vadclip[0]["AP, alignment branch"] == "84.51" and not vadclip[0]["AP"]
    assert vadclip[1]["weights"] == "trained here, clean: last weights"
    assert "±" in vadclip[1]["AP, alignment branch"]
    assert rows[-1]["model"] == "dsanet"
    assert rows[-1]["weights"] == "trained here: not run"


def test_benchmarks_without_a_run_are_listed_on_request(tmp_path):
    write_runs(tmp_path)
    groups = read_groups(tmp_path)
    assert list(tables.tables(groups)) == ["small"]
    found = tables.tables(groups, published=True)
    assert list(found) == ["small", "ucf", "xd", "shanghaitech"]
    not_run = [r["model"] for r in found["ucf"] if r["weights"].endswith("not run")]
    assert not_run == list(MODELS)
    xd = tables.markdown({"xd": found["xd"]})
    assert "| AP | AP, trapezoidal | AP, alignment branch | mAP AVG |" in xd
    assert all(number in xd for number in ("86.95", "82.19", "84.51", "28.87"))


def test_interval_of_these_very_runs_only(tmp_path):
    runs = write_runs(tmp_path)
    values = [read_json(r / "results.json")["auc"] for r in runs]
    auc = {"seeds": values, "interval": [0.5, 0.625]}
    names = {"dataset": "small", "model": "vadclip", "protocol": "clean"}
    summary = {**names, "seeds": [0, 1, 2], "metrics": {"auc": auc}}
    write_json(tmp_path / "vadclip-small-clean-seeds.json", summary)
    (row,) = tables.tables(read_groups(tmp_path))["small"]
    assert row["95 % interval"] == "50.00–62.50"
    write_json(
        runs[0] / "results.json", read_json(runs[0] / "results.json") | {"auc": 1}
    )
    (row,) = tables.tables(read_groups(tmp_path))["small"]
    assert row["95 % interval"] == ""


def test_readme_is_filled_checked_and_left_alone_elsewhere(tmp_path, capsys):
    runs, readme = write_runs(tmp_path / "runs"), tmp_path / "README.md"
    readme.write_text(README)
    arguments = [str(tmp_path / "runs"), "--markdown", str(readme)]
    assert report.main([*arguments, "--check"]) == 1
    assert readme.read_text() == README
    message = capsys.readouterr().err
    assert "differs from what the runs give" in message and message.count("\n") == 1
    assert report.main(arguments) == 0
    text = readme.read_text()
    assert text.startswith(f"# Title\n\n{tables.BEGIN}\nValues are in %")
    assert text.endswith(f"|\n{tables.END}\n\nafter\n") and "old" not in text
    assert report.main([*arguments, "--check"]) == 0
    write_json(
        runs[0] / "results.json", read_json(runs[0] / "results.json") | {"ap": 0}
    )
    assert report.main([*arguments, "--check"]) == 1


def test_the_short_table_has_headline_metrics_alone(tmp_path):
    write_runs(tmp_path, "vadclip", (0, 1), dataset="xd")
    write_runs(tmp_path, "vadclip", (0,), "protocol=paper", dataset="xd")
    readme = tmp_path / "README.md"
    readme.write_text(README)
    arguments = [str(tmp_path), "--readme", str(readme), "--short"]  # a former name
    assert report.main(arguments) == 0
    rows = {row["model"]: row for row in rows_of(readme)}
    assert list(rows) == list(MODELS)
    row = rows["vadclip"]
    assert (row["dataset"], row["metric"]) == ("xd", "AP")
    mean, std = row["trained here, clean"].split(" ± ")
    (clean, _) = read_groups(tmp_path)
    assert clean.mean_and_std("ap") == pytest.approx(
        (float(mean) / 100, float(std) / 100), abs=1e-4
    )
    assert row["trained here, selected on test"]
    assert row["published"].startswith("[84.51](https://")
    assert row["published"].endswith(", alignment branch")
    assert rows["dsanet"]["trained here, clean"] == "not run"
    assert report.main([*arguments, "--check"]) == 0


@pytest.mark.parametrize(
    "text",
    [
        "no markers",
        f"{tables.END}\n{tables.BEGIN}\n",
        f"{tables.BEGIN}\n",
        f"{README}{README}",
        f"{tables.END}{README}",
    ],
)
def test_markers_must_be_there_once(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    write_runs(tmp_path, seeds=(0,))
    with pytest.raises(InputError, match="README.md: expected one line"):
        report.main([str(tmp_path), "--readme", str(tmp_path / "README.md")])
    assert (tmp_path / "README.md").read_text() == text


def test_collected_runs_give_the_same_tables_without_paths(tmp_path, capsys):
    clip = f"clip={tmp_path}/clip/snapshot"
    write_runs(tmp_path / "runs", "vadclip", (0, 1), clip)
    write_runs(tmp_path / "runs", "mil_ranking", (0,), "protocol=paper")
    results = tmp_path / "results"
    report.main([str(tmp_path / "runs"), "--collect", str(results)])
    files = sorted(
        p.relative_to(results).as_posix() for p in results.rglob("seed?.json")
    )
    assert files == [
        "small/mil_ranking/paper/seed0.json",
        "small/vadclip/clean/seed0.json",
        "small/vadclip/clean/seed1.json",
    ]
    assert len(list(results.rglob("seed?.curves.json"))) == 3
    for file in files:
        assert str(tmp_path) not in (results / file).read_text()
        assert read_json(results / file)["config"]["data"]["name"] == "small"
    config = read_json(results / files[1])["config"]
    own = recipe("vadclip", "small", 0)
    assert config["clip"] == "snapshot"
    assert config["clean"]["steps"] == own.clean.steps
    before = tables.markdown(tables.tables(read_groups(tmp_path / "runs")))
    assert tables.markdown(tables.tables(read_groups(results))) == before
    capsys.readouterr()
    report.main([str(results), "--collect", str(results)])  # nothing changes
    assert tables.markdown(tables.tables(read_groups(results))) == before


def test_a_summary_is_collected_with_its_seeds(tmp_path):
    runs = write_runs(tmp_path / "runs")
    auc = {"seeds": [read_json(r / "results.json")["auc"] for r in runs]}
    summary = {"model": "vadclip", "dataset": "small", "protocol": "clean"}
    summary |= {"seeds": [0, 1, 2], "metrics": {"auc": auc | {"interval": [0.1, 0.9]}}}
    write_json(tmp_path / "runs" / "summary.json", summary)
    report.main([str(tmp_path / "runs"), "--collect", str(tmp_path / "results")])
    path = tmp_path / "results" / "small" / "vadclip" / "clean" / "summary.json"
    assert read_json(path) == summary
    (row,) = tables.tables(read_groups(tmp_path / "results"))["small"]
    assert row["95 % interval"] == "10.00–90.00"


def test_two_recipes_cannot_be_collected_under_one_name(tmp_path):
    write_runs(tmp_path, seeds=(0,))
    write_runs(tmp_path, "vadclip", (0,), "model.use_graph=False")
    with pytest.raises(InputError, match="are both seed 0 of vadclip on small"):
        report.main([str(tmp_path), "--collect", str(tmp_path / "results")])
    assert not (tmp_path / "results").exists()


def test_converted_weights_are_no_trained_run(tmp_path):
    config = recipe("vadclip", "ucf")
    changes = {"selection": "converted", "checkpoint": "model_ucf.pth"}
    run = write_run(tmp_path / "released", config, "ucf", **changes)
    (group,) = read_groups(run)
    assert group.first.weights_description == "scored here: model_ucf.pth, converted"
    assert group.first.protocol == ""
    (run / "config.json").unlink()  # as evaluate leaves it
    assert "trained" not in read_groups(run)[0].first.weights_description
    report.main([str(run), "--collect", str(tmp_path / "results")])
    file = tmp_path / "results" / "ucf" / "vadclip" / "scored" / "model_ucf.json"
    assert read_run(file).weights_description == group.first.weights_description
    assert len(find_runs([tmp_path / "results"])[0]) == 1


@pytest.mark.parametrize("key", ["position_bias_removed", "without_place"])
def test_rows_name_the_removal_of_position_bias(tmp_path, key):
    run = write_run(tmp_path, recipe("vadclip", "ucf"), **{key: True})
    description = read_run(run).weights_description
    assert description == "trained here, clean: last weights, position bias removed"
    run = write_run(tmp_path, recipe("vadclip", "ucf"), **{key: False})
    assert "bias" not in read_run(run).weights_description


def test_unfinished_runs_are_left_out_and_named(tmp_path, capsys):
    runs = write_runs(tmp_path)
    (runs[1] / "results.json").unlink()
    report.main([str(tmp_path), "--output", str(tmp_path / "out")])
    assert f"{runs[1]} is not finished" in capsys.readouterr().err
    assert rows_of(tmp_path / "out" / "report.md")[0]["seeds"] == "2"
    with pytest.raises(InputError, match="no results.json here"):
        report.main([str(runs[1]), "--output", str(tmp_path / "out")])


def test_bad_input_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "no", "no such run"),
        (tmp_path / "empty", "found no"),
    ):
        with pytest.raises(InputError, match=message):
            find_runs([path])
    (run,) = write_runs(tmp_path, seeds=(0,))
    write_json(run / "results.json", read_json(run / "results.json") | {"seed": 4})
    with pytest.raises(InputError, match="results are of seed 4, its config says 0"):
        find_runs([run])
    write_json(run / "results.json", {"auc": 1})
    with pytest.raises(InputError, match="results: the key model is missing; score"):
        find_runs([tmp_path])
    (run / "results.json").write_text('{"auc": 0.')
    with pytest.raises(InputError, match="expected a JSON file"):
        find_runs([tmp_path])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--check"],
        ["--readme", "a", "--check", "--output", "b"],
        ["--short", "--output", "b"],
    ],
)
def test_arguments_that_make_no_sense(arguments, tmp_path, capsys):
    write_runs(tmp_path, seeds=(0,))
    with pytest.raises(SystemExit) as stop:
        report.main([str(tmp_path), *arguments])
    assert stop.value.code == 2


def test_a_study_and_its_report_agree(tmp_path):
    runs = write_runs(tmp_path)
    (group,) = read_groups(tmp_path)
    study.check_alike([read_run(r) for r in runs])
    assert group.first.weights_description == read_run(runs[0]).weights_description


def test_the_program_needs_neither_jax_nor_numpy(tmp_path):
    write_runs(tmp_path, seeds=(0,))
    code = (
        "import sys; from wsvad_jax import report\n"
        f"report.main([{str(tmp_path)!r}, '--output', {str(tmp_path)!r}])\n"
        "print(sorted({'jax', 'numpy', 'flax', 'matplotlib'} & sys.modules.keys()))"
    )
    run = [sys.executable, "-c", code]
    found = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert found.splitlines()[-1] == "[]"
    run = [sys.executable, "-m", "wsvad_jax.report", "--help"]
    found = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert "--collect" in found and "report.csv" in found


def test_published_numbers_are_of_known_metrics_and_systems():
    for numbers in PUBLISHED:
        assert numbers.model in MODELS
        assert numbers.dataset in BENCHMARKS
        assert set(numbers.values) <= set(tables.COLUMNS)
        assert json.dumps(dict(numbers.values))
