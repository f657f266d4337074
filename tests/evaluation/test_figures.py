"""Figures of a run: the snippets that they show, and the files that are written."""

import csv
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from untrained import write_model

from wsvad_jax import report
from wsvad_jax.data.dataset import Entry
from wsvad_jax.evaluation.figures import embedding, encode, sample
from wsvad_jax.evaluation.figures.write import plan_figures
from wsvad_jax.evaluation.windows import windows_of_split
from wsvad_jax.experiment import build
from wsvad_jax.models.encoded_features import encoded_features, encoded_layer
from wsvad_jax.results.runs import find_runs
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json


def entry(video, label, T, *segments):
    return Entry(video, (label,), 1, T, 16 * T, segments)


def test_classes_share_half_of_the_snippets():
    entries = [
        entry("calm", 0, 100),
        entry("long", 1, 60, (0, 16 * 50, 1)),
        entry("short", 2, 10, (0, 16 * 4 + 7, 2)),  # 7 of 16 frames are too few
        entry("unknown", 1, 30),
    ]
    chosen = sample.sample_snippets(entries, 3, 16, 40)
    assert chosen.available.tolist() == [100 + 10 + 6, 50, 4]
    assert chosen.shown.tolist() == [20, 16, 4]
    assert chosen.left_out == 30 and chosen.truth == sample.FRAMES
    for v, t, c in zip(chosen.video, chosen.snippet, chosen.category, strict=True):
        own = sample.snippet_categories(entries[v], 3, 16)
        assert own[t] == c

    # The same seed chooses the same snippets, another one others.
    again = sample.sample_snippets(entries, 3, 16, 40)
    other = sample.sample_snippets(entries, 3, 16, 40, seed=1)
    assert (chosen.snippet == again.snippet).all()
    assert (chosen.snippet != other.snippet).any()


@pytest.mark.parametrize("count", (1, 7, 50, 10_000))
def test_shares_add_up_and_never_exceed_what_there_is(count):
    for available in ([30, 5, 0, 9], [0, 3, 3], [4, 100], [12, 0]):
        shares = sample.class_shares(np.array(available), count)
        assert sum(shares) == min(count, sum(available))
        assert all(0 <= n <= m for n, m in zip(shares, available, strict=True))


def test_without_true_events_snippets_have_the_label_of_their_video():
    chosen = sample.sample_snippets([entry("a", 0, 5), entry("b", 2, 7)], 3, 16, 100)
    assert chosen.truth == sample.VIDEOS
    assert chosen.available.tolist() == [5, 0, 7]


@pytest.mark.parametrize(
    "model",
    (
        "mil_ranking",
        "clip_tsa",
        "vadclip",
        pytest.param("dsanet", marks=pytest.mark.slow),
    ),
)
def test_features_are_those_of_the_chosen_snippets(tiny, tmp_path, model):
    from wsvad_jax.weights.model_folder import load_params

    params, stats, _ = load_params(write_model(tiny, model, tmp_path / "model"))
    experiment = build.open_experiment(tiny.config(model))
    split = experiment.dataset.split("test")
    chosen = sample.sample_snippets(split.entries, 3, 16, 20)
    before, after = encode.read_features(experiment, params, stats, chosen)

    # The class texts are the model's own, where it reads any.
    text = None
    if experiment.text is not None:
        text = jax.jit(experiment.model.encode_text)(params, experiment.text)
        np.testing.assert_allclose(after.texts, text, rtol=1e-5, atol=1e-5)
    else:
        assert before.texts is None and after.texts is None
        assert after.note.endswith("reads no class texts")

    layer = encoded_layer(experiment.spec)
    assert layer is not None
    variables = {"params": params, "batch_stats": stats}

    @jax.jit
    def alone(x, n):
        return encoded_features(layer, experiment.model, variables, x, n, text)

    # One video at a time, on its own.
    for index, windows in windows_of_split(experiment, "test"):
        for row in np.flatnonzero(np.isin(chosen.video, index)):
            v, t = int(chosen.video[row]), chosen.snippet[row]
            record = split[v].features.astype(np.float32)
            np.testing.assert_allclose(before.snippets[row], record[:, t].mean(0))

            w = np.flatnonzero(windows.video == np.flatnonzero(index == v)[0])[0]
            x = jnp.asarray(windows.features[w : w + 1], jnp.float32)
            made = alone(x, jnp.asarray(windows.length[w : w + 1], jnp.int32))
            np.testing.assert_allclose(
                after.snippets[row], made[0, t], rtol=1e-4, atol=1e-4
            )


def test_neighbours_stay_neighbours_and_texts_are_near_their_class():
    random = np.random.default_rng(0)
    centres = np.eye(3, 16) * 4
    category = np.arange(90) % 3
    snippets = centres[category] + random.normal(0, 0.3, (90, 16)) + 5
    texts = centres - 7  # a constant difference, as between images and texts
    place = encode.StageFeatures("features", snippets, texts)
    points, marks, settings = embedding.embed(place, "tsne")
    assert settings["seed"] == 0 and settings["perplexity"] == 30
    assert marks is not None
    for c in range(3):
        near = np.linalg.norm(points - marks[c], axis=1).argsort()[:10]
        assert (category[near] == c).all()
    again, _, _ = embedding.embed(place, "tsne")
    np.testing.assert_array_equal(points, again)


@pytest.mark.parametrize(
    "snippets, words",
    (
        (np.ones((50, 4)), "same features"),
        (np.zeros((50, 4)), "same features"),
        (np.eye(4), "too few"),
    ),
)
def test_snippets_without_neighbours_are_refused(snippets, words):
    with pytest.raises(InputError, match=words):
        embedding.embed(encode.StageFeatures("features", snippets, None), "tsne")


def test_a_run_gets_figures_points_and_captions(finished, tmp_path, capsys):
    (folder,) = plan_figures(find_runs([finished])[0], tmp_path)
    folder.mkdir(parents=True)
    (folder / "older.png").touch()
    command = [str(finished), "--output", str(tmp_path), "--figures"]
    report.main([*command, "--snippets", "40"])
    content = read_json(folder / "figures.json")
    names = {"snippets_features", "snippets_encoded", "anomaly_roc", "anomaly_auc"}
    assert set(content["figures"]) == {*names, "class_roc", "class_pr"}
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for figure in content["figures"].values():
        for file in figure["files"]:
            text = (folder / file).read_bytes()
            assert text.startswith(starts[file.rpartition(".")[2]])
        assert figure["caption"]
    out, err = capsys.readouterr()
    assert str(folder) in out
    assert "didn't write: older.png" in err  # and is still there

    with open(folder / "snippets.csv") as f:
        rows = list(csv.DictReader(f))
    texts = [row for row in rows if row["kind"] == "text"]
    shown = content["snippets"]["shown"]
    assert len(rows) == shown + len(texts) and len(texts) == 3
    scores = np.load(finished / "scores.npz")
    for row in rows[:shown]:
        score = scores[f"{row['video']}/anomaly"][int(row["snippet"])]
        assert float(row["score"]) == pytest.approx(score, abs=1e-5)

    # The areas are those of the points.
    with open(folder / "curves.csv") as f:
        points = [r for r in csv.DictReader(f) if r["figure"] == "anomaly_roc"]
    for name, area in content["figures"]["anomaly_roc"]["classes"].items():
        xy = np.array([(r["x"], r["y"]) for r in points if r["class"] == name], float)
        assert np.trapezoid(xy[:, 1], xy[:, 0]) == pytest.approx(area["auc"], abs=0.01)


@pytest.mark.slow
def test_a_model_without_classes_says_what_is_missing(tiny, tmp_path, capsys):
    from wsvad_jax.training.run import train_and_evaluate

    workdir = tmp_path / "run"
    train_and_evaluate(tiny.config("mil_ranking"), workdir)
    command = [str(workdir), "--output", str(tmp_path / "out"), "--figures"]
    report.main([*command, "--snippets", "30", "--json"])
    (folder,) = (tmp_path / "out/figures").iterdir()
    content = read_json(folder / "figures.json")
    assert content["snippets"]["shown"] == 30
    assert "class_roc" not in content["figures"]
    err = capsys.readouterr().err
    assert "MIL ranking reads no class texts" in err
    assert "has no class probabilities" in err
    with open(folder / "snippets.csv") as f:
        assert {row["kind"] for row in csv.DictReader(f)} == {"snippet"}


@pytest.mark.parametrize(
    "words, message",
    (
        (["--figures"], "--figures requires --output"),
        (["--output", "x", "--snippets", "5"], "no --figures"),
        (["--output", "x", "--figures", "--snippets", "0"], "whole number from 1"),
        (["--output", "x", "--figures", "--snippets", "99999"], "20000 or less"),
        (["--output", "x", "--figures", "--embedding", "pca"], "invalid choice"),
    ),
)
def test_careless_flags_are_refused(
    finished, tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    try:
        report.main([str(finished), *words])
    except SystemExit:
        text = capsys.readouterr().err
    except InputError as e:
        text = str(e)
    else:
        pytest.fail("not refused")
    assert message in text
    assert not list(tmp_path.iterdir())


def test_copies_of_results_have_no_figures(finished, tmp_path):
    report.main([str(finished), "--collect", str(tmp_path / "copies")])
    with pytest.raises(InputError, match="figures need the workdir"):
        report.main(
            [str(tmp_path / "copies"), "--output", str(tmp_path / "out"), "--figures"]
        )
    assert not (tmp_path / "out").exists()


def test_changed_data_is_refused_before_anything_is_written(finished, tmp_path):
    (run,), *_ = find_runs([finished])
    changed = dataclasses.replace(run, about={"dataset": "0" * 64})
    with pytest.raises(InputError, match="scored on other data"):
        plan_figures([changed], tmp_path)
    assert not list(tmp_path.iterdir())


def test_texts_of_the_features_own_clip_are_shown_with_them(tiny):
    experiment = build.open_experiment(tiny.config("vadclip"))
    texts, why = encode.clip_texts(experiment)
    assert texts is None and "not known to be the CLIP model of the texts" in why

    # As if the snapshot of the prompts had made the features.
    tower = experiment.text_tower_id
    assert tower is not None
    made = {"weights": tower["settings"]["weights"]}
    dataset = experiment.dataset
    protocol = dataclasses.replace(dataset.protocol, encoder_settings=made)
    dataset = dataclasses.replace(dataset, protocol=protocol)
    texts, why = encode.clip_texts(dataclasses.replace(experiment, dataset=dataset))
    assert texts is not None and texts.shape == (3, dataset.width) and not why
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-5)
