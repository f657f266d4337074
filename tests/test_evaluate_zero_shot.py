"""Zero-shot scoring from evaluate to tables, on features whose classes are known."""

import dataclasses

import numpy as np
import pytest

from wsvad_jax import benchmark, evaluate, train
from wsvad_jax.clip.prompts import text_inputs
from wsvad_jax.clip.snapshot import load_snapshot
from wsvad_jax.data import feature_protocols, tfds_builder
from wsvad_jax.data.cards import Card, ClassCard
from wsvad_jax.data.records import Record
from wsvad_jax.models import zero_shot
from wsvad_jax.results import tables
from wsvad_jax.results.runs import find_runs
from wsvad_jax.results.seed_groups import group_by_recipe
from wsvad_jax.utils import program
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json

CLASSES = (
    ClassCard("Normal", ("an ordinary street",)),
    ClassCard("Fight", ("people fighting", "two people hitting each other")),
    ClassCard("Fire", ("a fire",)),
)
SHARP = "--config.model.temperature=0.01"


def records(classes, count, prefix):
    """Videos whose snippets are their class's text feature and a little noise."""
    for i in range(count):
        random = np.random.RandomState(i)
        T, label = 6 + i % 5, (0, 1, 0, 2)[i % 4]
        truth = np.zeros(T, int)
        truth[2:5] = label
        noise = 0.005 * random.standard_normal((1, T, classes.shape[1]))
        features = (8 * (classes[truth] + noise)).astype(np.float16)
        segments = ((32, 80, label),) if label else ()
        yield Record(f"{prefix}{i}", features, (label,), 16 * T, segments)


def write(folder, model, name, **changes):
    """A prepared dataset of such videos; `changes` are of the card or the protocol."""
    snapshot = load_snapshot(model)
    text = text_inputs(snapshot, [c.prompts for c in CLASSES])
    classes = np.asarray(zero_shot.Model(temperature=1.0).encode_text({}, text))
    card = Card(name, CLASSES, clip=changes.pop("clip", str(model)))
    protocol = feature_protocols.snapshot_protocol(snapshot, "stretch")
    protocol = dataclasses.replace(protocol, stride=16, crops=1, **changes)
    splits = {"train": records(classes, 4, "a"), "test": records(classes, 12, "b")}
    return tfds_builder.write_dataset(name, card, protocol, splits, folder)


@pytest.fixture(scope="module")
def dataset(clip, tmp_path_factory):
    return write(tmp_path_factory.mktemp("data"), clip, "known")


@pytest.fixture(scope="module")
def scored(dataset, tmp_path_factory):
    """A finished evaluation, which tests only read."""
    workdir = tmp_path_factory.mktemp("runs") / "floor"
    flags = [f"--config=zero_shot:{dataset}", SHARP, f"--workdir={workdir}"]
    assert evaluate.main(flags) == 0
    return workdir


def refused(capsys, main, *arguments) -> str:
    """What a program says about arguments that it refuses, in one line."""
    with pytest.raises(SystemExit) as e:
        program.run(lambda: main([str(a) for a in arguments]))
    assert e.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err and err.count("error: ") == 1
    return err[err.index("error: ") :].strip()


def test_evaluate_finds_what_the_words_name(scored):
    results = read_json(scored / "results.json")
    assert results["auc"] > 0.98 and results["map_avg_clean"] > 0.9
    assert (results["model"], results["selection"]) == ("zero_shot", "not trained")
    assert results["step"] is None and not results["position_bias_removed"]
    files = {path.name for path in scored.iterdir()}
    written = {"results.json", "scores.npz", "curves.json", "report.png", "data.json"}
    assert files == {*written, "config.json"}
    with np.load(scored / "scores.npz") as scores:
        classes = scores["b1/classes"]
        assert (
            classes.dtype == np.float32 and classes[2:5].argmax(-1).tolist() == [1] * 3
        )
        rest = 1 - classes[:, 0]
        np.testing.assert_allclose(scores["b1/anomaly"], rest, atol=1e-6)


def test_a_workdir_keeps_its_recipe(dataset, scored, capsys):
    before = read_json(scored / "results.json")
    assert evaluate.main([f"--workdir={scored}"]) == 0
    assert read_json(scored / "results.json") == before
    where = f"--config=zero_shot:{dataset}", f"--workdir={scored}"
    line = refused(capsys, evaluate.main, *where)
    assert "holds another run: its model.temperature is 0.01, yours None" in line
    assert read_json(scored / "results.json") == before


def test_it_is_not_trained(dataset, tmp_path, capsys):
    for flags in ((), ("--seeds", "0,1")):
        where = f"--config=zero_shot:{dataset}", f"--workdir={tmp_path / 'run'}"
        line = refused(capsys, train.main, *where, *flags)
        assert "zero_shot is not trained; score it with `python -m" in line
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--checkpoint=model", "zero_shot has no weights; leave the flag out"),
        ("--force", "zero_shot has none; leave it out"),
        ("--config.protocol=paper", "zero_shot has no weights to select"),
        ("--config.model.temperature=0", "temperature is 0.0; expected a number in"),
        ("--config.model.score=other", "expected max_anomaly or not_normal"),
        ("--config.templates=('a photo',)", "expected texts with {} in the place"),
        ("--config.clip=random", "the dataset's card names none; pass --config.clip"),
    ],
)
def test_what_does_not_fit_is_refused(dataset, tmp_path, capsys, flag, text):
    where = f"--config=zero_shot:{dataset}", f"--workdir={tmp_path / 'run'}"
    assert text in refused(capsys, evaluate.main, *where, flag)
    assert not (tmp_path / "run" / "results.json").exists()


def test_features_and_words_are_of_one_clip_model(clip, tmp_path, capsys):
    from sample_videos import write_clip

    other = write_clip(tmp_path / "other", seed=1)
    path = write(tmp_path / "data", clip, "mixed", clip=str(other))
    line = refused(
        capsys, evaluate.main, f"--config=zero_shot:{path}", f"--workdir={tmp_path}/a"
    )
    assert (
        "its features are of small@" in line and "pass --config.clip=NAME|DIR" in line
    )

    # Features that don't say it are scored, and the assumption is printed.
    unknown = {"encoder": "unknown", "encoder_settings": {}}
    path = write(tmp_path / "data", clip, "silent", **unknown)
    flags = [f"--config=zero_shot:{path}", f"--workdir={tmp_path}/b"]
    assert evaluate.main(flags) == 0
    assert f"those of {clip} are assumed" in capsys.readouterr().err


def test_templates_are_an_ensemble(dataset, tmp_path):
    flags = [f"--config=zero_shot:{dataset}", SHARP, f"--workdir={tmp_path}"]
    templates = "--config.templates=('{}', 'a video of {}')"
    assert evaluate.main([*flags, templates, "--config.model.subtract_mean"]) == 0
    config = read_json(tmp_path / "config.json")
    assert config["templates"] == ["{}", "a video of {}"]
    assert read_json(tmp_path / "results.json")["auc"] > 0.7


def test_the_tables_show_one_run_without_a_seed(dataset, tmp_path):
    out, runs = tmp_path / "out", tmp_path / "runs"
    words = ["--seeds", "3", "--protocol", "clean,paper", SHARP]
    where = [f"--datasets={dataset}", f"--output={out}", f"--runs={runs}"]
    assert benchmark.main(["repro", "--models", "zero_shot", *words, *where]) == 0
    files = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    folder = "known/zero_shot/clean"
    names = ("seed0.json", "seed0.curves.json", "summary.json")
    assert files == {f"{folder}/{name}" for name in names}

    found, summaries, _ = find_runs([out])
    groups = group_by_recipe(found, summaries)
    (row,) = tables.tables(groups)["known"]
    assert (row["weights"], row["seeds"]) == ("not trained", "–")
    assert "±" not in row["frame AUC"] and row[tables.INTERVAL]
    (short,) = tables.short_table(groups)
    column = tables.SHORT_COLUMNS["not trained"]
    assert short[column] == row["frame AUC"]
    assert "trained here, clean" not in short


def test_speed_has_nothing_to_time(capsys):
    line = refused(capsys, benchmark.main, "speed", "--models", "zero_shot")
    assert "'zero_shot' must be one of mil_ranking" in line


def test_a_trained_model_still_needs_its_weights(dataset):
    from wsvad_jax.evaluation.results import evaluate_model
    from wsvad_jax.experiment.config import load_config

    config = load_config(f"mil_ranking:{dataset}")
    with pytest.raises(InputError, match="mil_ranking is trained; pass --checkpoint"):
        evaluate_model(config, None, dataset / "nowhere")
