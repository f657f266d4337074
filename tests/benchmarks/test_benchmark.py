"""Benchmarks: what is counted, what a grid leaves, what a comparison says."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsvad_jax import benchmark
from wsvad_jax.benchmarks import grid, input_pipeline, step_time, suite
from wsvad_jax.benchmarks.ablations import ABLATIONS, rows
from wsvad_jax.data.dataset import open_dataset
from wsvad_jax.experiment.config import load_config
from wsvad_jax.results import seed_groups
from wsvad_jax.results.runs import find_runs
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json

SMALL = step_time.BenchmarkShapes(batch_size=4, length=16, width=32, classes=3)


@pytest.fixture(autouse=True)
def small_inputs(monkeypatch):
    """The reference product and the frames of the synthetic video are small."""
    monkeypatch.setattr(step_time, "MATRIX_ROWS", {"cpu": 256})
    monkeypatch.setattr(input_pipeline, "FRAME_SIZE", (48, 64))


def flops(function, *arguments) -> float:
    return step_time.product_flops(jax.make_jaxpr(function)(*arguments))


def test_products_are_counted_as_by_hand():
    x, w = jnp.ones((5, 7)), jnp.ones((7, 11))
    assert flops(lambda x, w: jnp.tanh(x @ w), x, w) == 2 * 5 * 7 * 11
    batched = jnp.ones((3, 5, 7))
    assert flops(lambda x, w: x @ w, batched, w) == 3 * 2 * 5 * 7 * 11


def test_products_inside_loops_and_programs_are_counted():
    x = jnp.ones((6, 6))
    step = jax.jit(lambda c, _: (c @ c, None))

    def loop(x):
        return jax.lax.scan(step, x, None, length=9)[0]

    assert flops(loop, x) == 9 * 2 * 6**3
    assert flops(jax.grad(lambda x: jnp.sum(x @ x)), x) == 3 * 2 * 6**3


def test_convolutions_are_counted():
    x, kernel = jnp.ones((2, 10, 4)), jnp.ones((3, 4, 8))

    def convolve(x, kernel):
        dims = ("NWC", "WIO", "NWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (1,), "SAME", dimension_numbers=dims
        )

    assert flops(convolve, x, kernel) == 2 * (2 * 10 * 8) * (3 * 4)


@pytest.mark.parametrize(
    "model", ["mil_ranking", pytest.param("clip_tsa", marks=pytest.mark.slow)]
)
def test_speed_measures_training_and_scoring(model):
    config = load_config([f"--config={model}:ucf"])
    trained = step_time.measure_training(config, SMALL, steps=2)
    scored = step_time.measure_scoring(config, SMALL, steps=2)
    for found in (trained, scored):
        assert 0 < found["low_s"] <= found["median_s"] <= found["high_s"]
        assert found["flop_products"] > 0 and found["product_flop_per_s"] > 0
        work = found["flop_per_s"] * found["median_s"]
        assert work == pytest.approx(found["flop_products"])
    # A step goes forward and backward through what scoring goes through once.
    assert trained["flop_products"] > 2 * scored["flop_products"]
    found = {"device": "here", "models": {model: {"training": trained}}}
    assert model in suite.table(found)


@pytest.mark.parametrize("model", ["mil_ranking", "clip_tsa"])
def test_a_test_set_of_many_lengths_is_evaluated(model):
    """In windows, or whole in few shapes; all metrics included."""
    config = load_config([f"--config={model}:ucf", "--config.eval.batch_size=4"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(input_pipeline, "MAX_LENGTH", 40)
        patch.setattr(input_pipeline, "MEDIAN_LENGTH", 10)
        found = input_pipeline.measure_evaluation(config, SMALL, videos=6, repeats=1)
    assert found["amount"] == 6 and 40 < found["snippets"] <= 6 * 40
    table = suite.table({"device": "here", "models": {model: {"evaluation": found}}})
    assert f"{model}  evaluation  6 videos" in table


def test_ucfs_lengths():
    length = input_pipeline.ucf_lengths(290)
    assert (len(length), length.max()) == (290, 6750)
    assert np.median(length) == pytest.approx(104, abs=1)
    assert length.mean() == pytest.approx(240, rel=0.05)  # as published


def test_reading_and_extraction_are_measured():
    config = load_config(["--config=mil_ranking:ucf"])
    read = input_pipeline.measure_reading(config, SMALL, batches=3, repeats=1)
    assert read["amount"] == 12 and read["bytes"] == 12 * 16 * 32 * 2
    fed = input_pipeline.measure_feeding(config, SMALL, batches=3, repeats=1)
    assert fed["amount"] == 12 and fed["resident_s"] > 0
    share = 1 - fed["resident_s"] / fed["median_s"]
    assert fed["idle_share"] == pytest.approx(share)
    table = suite.table({"device": "here", "models": {"mil": {"feeding": fed}}})
    rows = [line.split() for line in table.splitlines()]
    assert ["mil", "feeding", "12", "samples"] in [row[:4] for row in rows]
    assert ["mil", "waiting", f"{100 * share:.1f}", "%", "of", "feeding"] in rows
    small = {"image_size": 32, "depth": 1}
    extracted = input_pipeline.measure_extraction(config, **small, repeats=1)
    assert extracted["amount"] == 256 and extracted["median_s"] > 0
    slower = max(extracted["decode_s"], extracted["encode_s"])
    assert extracted["of_slower_half"] == pytest.approx(extracted["median_s"] / slower)


def measured(seconds, rate=1e9, **sizes):
    work = {"median_s": seconds, "product_flop_per_s": rate, **sizes}
    return {"models": {"dsanet": {"training": work}}}


def test_a_comparison_is_by_the_ratio_to_the_product():
    assert not suite.compare(measured(1.1), measured(1.0), "old.json")
    # Twice the time beside a product that takes twice the time, too.
    assert not suite.compare(measured(2.0, 0.5e9), measured(1.0), "old.json")
    (words,) = suite.compare(measured(2.0), measured(1.0), "old.json")
    assert words == "dsanet, training: 2.00 times as long"
    with pytest.raises(InputError, match="old.json: training of dsanet is missing"):
        suite.compare(measured(0.5), {}, "old.json")
    with pytest.raises(InputError, match="has length 32, not 64; measure the same"):
        suite.compare(measured(1, length=64), measured(1, length=32), "old.json")


def test_names_are_checked():
    assert grid.parse_names("all", ("a", "b"), "--models") == ["a", "b"]
    assert grid.parse_names("b, a,b", ("a", "b"), "--models") == ["b", "a"]
    assert grid.parse_names("all,c", ("a", "b"), "--models", ("c",)) == [*"abc"]
    with pytest.raises(InputError, match="--models c: 'c' must be one of a, b"):
        grid.parse_names("c", ("a", "b"), "--models")


@pytest.mark.parametrize("flag", ["--batch_size", "--length", "--steps", "--videos"])
@pytest.mark.parametrize("value", ["0", "-1", "some"])
def test_sizes_that_are_none(flag, value, capsys):
    with pytest.raises(SystemExit) as e:
        benchmark.main(["speed", "--models", "mil_ranking", f"{flag}={value}"])
    assert e.value.code == 2
    wanted = f"argument {flag}: '{value}' is no whole number from 1 on"
    assert wanted in capsys.readouterr().err


def test_a_grid_of_no_seeds_is_refused(tmp_path):
    with pytest.raises(InputError, match="--seeds 0: requires at least one seed"):
        benchmark.main(["repro", "--seeds", "0", "--output", str(tmp_path / "out")])
    assert not [*tmp_path.iterdir()]


def test_a_grid_leaves_a_file_a_run_and_resumes(tiny, tmp_path, capsys):
    flags = tiny.flags("mil_ranking", clean__steps=2, paper__steps=2)
    flags = [f for f in flags if not f.startswith("--config=")]
    command = [
        *("repro", "--models", "mil_ranking", "--datasets", str(tiny.path)),
        *("--seeds", "2", "--protocol", "clean,paper"),
        *("--output", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")),
        *flags,
    ]
    assert benchmark.main(command) == 0
    files = sorted((tmp_path / "results").rglob("*.json"))
    names = [str(p.relative_to(tmp_path / "results")) for p in files]
    assert names == [
        f"own/mil_ranking/{protocol}/{name}.json"
        for protocol in ("clean", "paper")
        for name in ("seed0.curves", "seed0", "seed1.curves", "seed1", "summary")
    ]
    runs, summaries, unfinished = find_runs([tmp_path / "results"])
    assert len(runs) == 4 and len(summaries) == 2 and not unfinished
    assert {run.protocol for run in runs} == {"clean", "paper"}
    for file in files:
        assert str(tmp_path) not in file.read_text()  # no path of this machine
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.npz")}
    capsys.readouterr()
    # A result of another grid is in the same folder, and isn't one of these rows.
    other = files[1].with_name("seed9.json")
    other.write_text(files[1].read_text().replace('"seed": 0', '"seed": 9'))
    assert benchmark.main([*command, "--json"]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in before}

    # Standard output is the rows alone.
    out, err = capsys.readouterr()
    rows = json.loads(out)["rows"]
    assert [row["protocol"] for row in rows] == ["clean", "paper"]
    assert all(row["n"] == 2 and 0 <= row["auc"] <= 1 for row in rows)
    assert "is finished" in err
    first = read_json(files[1])
    assert first["results"]["seed"] == 0
    about = first["run"]
    assert about["dataset"] == open_dataset(tiny.path).content
    assert (
        about["overrides"]["clean.batch_size"] == 4 and about["seconds"]["training"] > 0
    )
    assert len(about["features_hash"]) == 64 and about["memory_bytes"]["process"] > 0


@pytest.mark.parametrize("model", sorted(ABLATIONS))
def test_the_rows_of_every_ablation_are_recipes(model):
    for flags in rows(model).values():
        config = load_config([f"--config={model}:ucf", *flags])
        for flag in flags:
            key, value = flag.removeprefix("--config.model.").split("=")
            assert str(config.model[key]) == value


@pytest.mark.parametrize(
    ("model", "row", "change"),
    [
        ("mil_ranking", "no_dropout", ("model.dropout=0.0",)),
        pytest.param(
            "vadclip", "no_graph", ABLATIONS["vadclip"]["no_graph"],
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_the_rows_of_an_ablation_lie_apart(
    tiny, tmp_path, monkeypatch, model, row, change
):
    monkeypatch.setitem(ABLATIONS, model, {row: change})
    steps = {"clean__epochs": 1} if model == "vadclip" else {"clean__steps": 2}
    flags = tiny.flags(model, **steps)
    flags = [f for f in flags if not f.startswith("--config=")]
    command = [
        *("repro", "--models", model, "--datasets", str(tiny.path)),
        *("--seeds", "1", "--output", str(tmp_path / "out"), "--ablations"),
        *("--runs", str(tmp_path / "runs")),
        *flags,
    ]
    assert benchmark.main(command) == 0
    places = {p.parents[3].name for p in (tmp_path / "out").rglob("seed0.json")}
    assert places == {"out", row}
    runs, *_ = find_runs([tmp_path / "out"])
    variants = {group.variant for group in seed_groups.group_by_recipe(runs)}
    key = change[0].partition("=")[0].removeprefix("model.")
    assert len(variants) == 2 and any(key in v for v in variants)
