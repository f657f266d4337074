"""A model is pushed to a hub on this machine, and others load it from there."""

import json
import os
import pickle
import subprocess
import sys

import hub_client as client
import hub_server
import numpy as np
import pytest
from huggingface_hub import ModelCard
from untrained import write_model

from wsvad_jax.detection.detector import Detector
from wsvad_jax.utils.files import read_json, write_json


@pytest.fixture(scope="module")
def hub():
    with hub_server.running() as hub:
        yield hub


@pytest.fixture(scope="module")
def workdir(tiny, tmp_path_factory):
    """A workdir with what training leaves, and with files that are nobody's business."""
    root = tmp_path_factory.mktemp("run") / "tiny-0"
    write_model(tiny, "dsanet", root / "model")
    meta = read_json(root / "model" / "meta.json")
    found = {"auc": 0.75, "map_avg": 0.5, "model": "dsanet", "step": meta["step"]}
    found |= {"remarks": [f"the features in {tiny.root}/own are short"]}
    write_json(root / "results.json", {**found, "protocol": "clean"})
    (root / "MODEL_CARD.md").write_text(
        f"# dsanet on own\n\nFrom {tiny.root}/own.\n\n## Use\n\nold words\n\n## Limits\n\nmany\n"
    )
    for path in (
        "model/params/notes.pkl",
        "model/train.npy",
        "config.json",
        "hf_token",
    ):
        (root / path).write_bytes(pickle.dumps("hf_secret"))
    return root


@pytest.fixture(scope="module")
def pushed(hub, workdir, tmp_path_factory):
    """The model on the hub, pushed by the program, and what it printed."""
    env = {**os.environ, "HF_ENDPOINT": hub.address, "HF_TOKEN": "hf_me"}
    env |= {
        "HF_HOME": str(tmp_path_factory.mktemp("author")),
        "HF_HUB_DISABLE_XET": "1",
    }
    words = [workdir, "me/tiny", "--public", "--with-clip", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "wsvad_jax.push", *map(str, words)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_others_get_the_same_scores_bit_for_bit(
    hub, pushed, workdir, tmp_path, monkeypatch, capsys
):
    x = np.random.RandomState(0).standard_normal((40, 32)).astype(np.float16)
    ours = Detector(workdir, progress=False).score(x)

    # Elsewhere: no token, and an empty cache.
    client.use(monkeypatch, hub, tmp_path, token="")
    hub.requests.clear()
    theirs = Detector("me/tiny", progress=False)
    assert theirs.source == f"me/tiny@{pushed['commit']}"
    assert theirs.description()["checkpoint"] == theirs.source
    assert tmp_path in theirs.folder.parents
    assert not [r for r in hub.requests if "/params/" in r]  # one copy is enough
    for name in ("anomaly", "classes"):
        np.testing.assert_array_equal(theirs.score(x)[name], ours[name])
    assert f"the model is {theirs.source} of the Hugging" in capsys.readouterr().err

    # Without the hub, the cache is enough.
    client.use(monkeypatch, hub, tmp_path, token="", offline=True)
    hub.requests.clear()
    offline = Detector("me/tiny", progress=False)
    assert "from the cache (HF_HUB_OFFLINE is set" in capsys.readouterr().err
    assert not hub.requests and offline.source == theirs.source
    np.testing.assert_array_equal(offline.score(x).anomaly, ours.anomaly)


def test_nothing_but_the_model_is_pushed(hub, pushed, workdir, tiny):
    files = hub.files("me/tiny")
    names = {name for name in files if not name.startswith("params/")}
    assert names == {
        ".gitattributes", "README.md", "meta.json", "model.safetensors", "results.json",
        "clip/config.json", "clip/model.safetensors", "clip/preprocessor_config.json",
        "clip/vocab.json", "clip/merges.txt", *(n for n in names if "token" in n),
    }  # fmt: skip
    assert set(pushed["files"]) == set(files) - {".gitattributes"}
    assert "params/notes.pkl" not in files
    for name, data in files.items():
        assert str(tiny.root).encode() not in data, name
        assert b"hf_secret" not in data and b"hf_me" not in data, name
    assert b"the features in own are short" in files["results.json"]


def test_the_card_has_what_the_hub_reads(hub, pushed):
    text = hub.files("me/tiny")["README.md"].decode()
    card = ModelCard(text, ignore_metadata_errors=False)
    data = card.data
    assert data.library_name == "wsvad_jax"
    assert data.pipeline_tag == "video-classification"
    assert data.license == "other" and "dsanet" in data.tags
    (auc, mean) = data.eval_results
    assert (auc.metric_type, auc.metric_value) == ("auc", 75.0)
    assert (mean.metric_type, mean.metric_value) == ("map_avg", 50.0)
    assert auc.dataset_name == "own" and data.datasets == ["own"]
    assert 'Detector("me/tiny")' in text and "old words" not in text
    assert "From own." in text and "## Limits" in text
