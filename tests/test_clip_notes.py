"""What a CLIP model was trained on is said in one line, once per command and per file."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from sample_videos import TEXT, VISION, write_video

from wsvad_jax import detect, extract, prepare, report, train
from wsvad_jax.clip import weight_names
from wsvad_jax.clip.random_snapshot import random_params, tokenizer_files
from wsvad_jax.clip.snapshot import save_snapshot
from wsvad_jax.experiment.build import open_experiment
from wsvad_jax.experiment.config import load_config
from wsvad_jax.utils.files import read_json

STREETS = "trained on rendered streets only; it knows nothing of real video"
RANDOM = "random weights; it knows no pictures and no words"
# Stands in for an installation without PyTorch, in worker processes, too.
NO_TORCH = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = (
    lambda name, *rest: None if name == "torch" else find(name, *rest)
)
"""


def run(program, *arguments):
    assert program.main([str(a) for a in arguments]) == 0


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    """A CLIP model whose layer norms look trained, with a training note."""
    flat = weight_names.flatten(random_params(TEXT, VISION, 0))
    for path in flat:
        if "layer_norm1" in path:
            flat[path] = flat[path] + np.float32(0.01)
    tokenizer = tokenizer_files(TEXT.max_position_embeddings)
    params = weight_names.unflatten(flat)
    folder = tmp_path_factory.mktemp("clip") / "streets"
    return save_snapshot(
        folder, TEXT, VISION, params, tokenizer=tokenizer, training_note=STREETS
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder of four videos; tests write its features elsewhere."""
    folder = tmp_path_factory.mktemp("own") / "yard"
    (folder / "videos").mkdir(parents=True)
    for frames, split in ((20, "train"), (24, "test")):
        for i, label in enumerate(("Normal", "Fire")):
            write_video(folder / "videos" / f"{split}_{label}.mp4", frames + i)
        rows = "".join(f"{split}_{x},{x}\n" for x in ("Normal", "Fire"))
        (folder / f"{split}.csv").write_text(f"video,label\n{rows}")
    return folder


def prepared(own, clip, data, capsys):
    features = data.parent / "features"
    flags = ["--clip", clip, "--data_dir", data, "--features", features]
    run(prepare, own, *flags)
    return data / "yard/1.0.0", capsys.readouterr().err


def test_features_and_datasets_carry_the_note(own, streets, tmp_path, capsys):
    path, err = prepared(own, streets, tmp_path / "data", capsys)
    (line,) = [x for x in err.splitlines() if STREETS in x]
    note = line.removeprefix("note: ")
    assert note.startswith("CLIP model of the features (streets@")
    features = tmp_path / "features"
    assert read_json(features / "protocol.json")["clip_note"] == note
    assert read_json(features / "train_Fire.json")["clip_note"] == note
    assert read_json(path / "metadata.json")["clip_note"] == note
    assert f"note: {note}" in (path / "report.txt").read_text()

    # Again, without an extraction: still said once.
    run(prepare, own, "--data_dir", tmp_path / "data", "--features", features)
    assert capsys.readouterr().err.count(STREETS) == 1
    run(prepare, own, "--features", features, "--check")
    assert note in capsys.readouterr().out


def test_extract_says_random_weights_once(own, clip, tmp_path, capsys):
    run(extract, own / "videos", "--clip", clip, "--output", tmp_path)
    err = capsys.readouterr().err
    assert err.count("random weights") == 1
    assert f"note: {read_json(tmp_path / 'protocol.json')['clip_note']}\n" in err


def test_a_trained_model_carries_the_note(own, streets, tmp_path, capsys):
    path, _ = prepared(own, streets, tmp_path / "data", capsys)
    recipe = [f"--config=configs/mil_ranking.py:{path}", "--config.clean.steps=1"]
    recipe += ["--config.clean.batch_size=2"]
    run(train, *recipe, "--seeds", "0,1", "--workdir", tmp_path / "runs")
    assert capsys.readouterr().err.count(STREETS) == 1

    seed = tmp_path / "runs/seed0"
    note = read_json(seed / "results.json")["clip_note"]
    assert note.startswith("CLIP model of the features (streets@")
    assert note in (seed / "MODEL_CARD.md").read_text()
    assert read_json(seed / "model/meta.json")["clip_note"] == note

    videos, out = own / "videos", tmp_path / "out"
    run(detect, videos, "--checkpoint", seed, "--clip", streets, "--output", out)
    assert capsys.readouterr().err.count(STREETS) == 1
    assert read_json(out / "events.json")["settings"]["clip_note"] == note
    assert (out / "report.html").read_text(encoding="utf-8").count(STREETS) == 1

    live = ["--live", videos / "test_Fire.mp4", "--pace", 0, "--clip", streets]
    run(detect, *live, "--checkpoint", seed)
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["clip_note"] == note

    run(report, tmp_path / "runs", "--html", tmp_path / "results.html")
    assert (tmp_path / "results.html").read_text().count(STREETS) == 1


def test_prompts_carry_the_note(own, streets, tmp_path, capsys):
    path, _ = prepared(own, streets, tmp_path / "data", capsys)
    recipe = f"--config=configs/vadclip.py:{path}"
    note = open_experiment(load_config([recipe])).clip_note or ""
    assert note.startswith("CLIP model of the features and prompts (streets@")
    assert f"note: {note}\n" in capsys.readouterr().err

    # A text tower of random weights is said, whatever made the features.
    random = load_config([recipe, "--config.clip=random"])
    note = open_experiment(random).clip_note or ""
    assert f"prompts: {RANDOM}, so names of classes carry no meaning" in note
    assert STREETS in note and f"note: {note}" in capsys.readouterr().err


def test_no_program_advises_to_install_pytorch(own, clip, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    places = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))}
    environment.pop("TRANSFORMERS_NO_ADVISORY_WARNINGS", None)

    def stderr(*command):
        result = subprocess.run(
            [sys.executable, *map(str, command)],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
        )
        return result.stderr

    if "PyTorch" not in stderr("-c", "import transformers"):
        pytest.skip("this version of transformers gives no advice")
    flags = ["--clip", clip, "--output", tmp_path / "out"]
    said = stderr("-m", "wsvad_jax.extract", own / "videos", *flags)
    assert "PyTorch" not in said and "transformers" not in said
    assert "random weights" in said
