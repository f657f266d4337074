"""Names of the hub as checkpoints: where a model is found, and why it isn't."""

import os
import pathlib
import shutil
import subprocess

import hub_client as client
import hub_server
import numpy as np
import pytest
from untrained import write_model

from wsvad_jax import push
from wsvad_jax.utils import hub_access
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json
from wsvad_jax.weights import hub_model
from wsvad_jax.weights.hub_model import find_checkpoint, load_checkpoint
from wsvad_jax.weights.model_folder import load_params

NOWHERE = "http://127.0.0.1:9"  # the port of "discard", where nobody listens


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    return write_model(tiny, "mil_ranking", tmp_path_factory.mktemp("run") / "model")


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    """A hub with one model, me/x, and its branch v1."""
    with hub_server.running() as hub, pytest.MonkeyPatch.context() as patch:
        client.use(patch, hub, tmp_path_factory.mktemp("author"))
        assert push.main([str(model), "me/x", "--public"]) == 0
        assert push.main([str(model), "me/x@v1"]) == 0
        yield hub


@pytest.fixture
def hub(server, monkeypatch, tmp_path):
    """The hub as a user without a token sees it, from an empty folder and cache."""
    client.use(monkeypatch, server, tmp_path / "home", token="")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = dict(server.repositories)
    yield server
    server.repositories = before
    server.cut_download, server.status = 0, {}


def refused(name: str) -> str:
    with pytest.raises(InputError) as e:
        load_checkpoint(name)
    assert "\n" not in str(e.value)
    return str(e.value)


def digest(found) -> list[bytes]:
    import jax

    return [np.asarray(x).tobytes() for x in jax.tree.leaves(found[1:3])]


def test_a_branch_a_commit_and_the_default(hub, model):
    wanted = [np.asarray(x).tobytes() for x in _leaves(load_params(model)[:2])]
    for branch in ("main", "v1"):
        sha = hub.repositories["me/x"]["branches"][branch]
        name = "me/x" if branch == "main" else f"me/x@{branch}"
        assert find_checkpoint(name).source == f"me/x@{sha}"
        found = load_checkpoint(f"me/x@{sha}")
        assert digest(found) == wanted and found[3]["checkpoint"] == f"me/x@{sha}"


def _leaves(tree):
    import jax

    return jax.tree.leaves(tree)


def test_safetensors_alone_and_orbax_alone_are_the_same_model(hub, model, tmp_path):
    wanted = [np.asarray(x).tobytes() for x in _leaves(load_params(model)[:2])]
    files = hub.files("me/x")
    for kept in ("model.safetensors", "params/"):
        one = {n: d for n, d in files.items() if n.startswith((kept, "meta.json"))}
        hub.create("me/one")
        hub.commit("me/one", "main", one)
        found = load_checkpoint("me/one")
        assert digest(found) == wanted
        names = {p.name for p in found[0].iterdir()}
        assert names == {"meta.json", kept.rstrip("/")}
        shutil.rmtree(hub_access.cached_folder(hub_access.HubName("me/one")))


def test_a_folder_comes_first_and_it_is_said_which(hub, model, capsys):
    shutil.copytree(model, "me/x")
    assert find_checkpoint("me/x").source == "me/x"
    assert not capsys.readouterr().err

    # A download of that name makes it ambiguous.
    assert find_checkpoint("me/x@main").source.startswith("me/x@")
    capsys.readouterr()
    assert find_checkpoint("me/x").folder == pathlib.Path("me/x")
    said = capsys.readouterr().err
    assert f"me/x is the folder here ({os.getcwd()}/me/x), not the hub's" in said
    assert "me/x@main is the hub's" in said


def test_what_is_neither_here_nor_there(hub):
    hub.create("other/closed", private=True)
    for name in ("me/nothing", "other/closed", "runs/dsanet-demo-0"):
        sentence = refused(name)
        assert f"{name}: no such folder here, and not found on the Hugging" in sentence
        assert "the hub has no model of that name, or it is private and" in sentence
        assert "nobody's token (none is set)" in sentence
    assert "it has no revision 'v9' (branch, tag or commit)" in refused("me/x@v9")
    for name in ("me/my model", "me/a..b", "me/ü", "me/x@"):
        assert f"{name}: no such folder, and no name of the Hugging" in refused(name)
    assert "expected a folder or a name" in refused("https://huggingface.co/me/x")
    for path in ("", "./me/x", "a/b/c", "nowhere"):
        assert "no model here (meta.json is missing)" in refused(path)


def test_a_wrong_token(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    sentence = refused("me/x")
    assert "refuses the token of this account (401)" in sentence
    assert "hf_wrong" not in sentence


def test_another_kind_of_model(hub):
    hub.create("me/bert", config__json=b"{}", pytorch_model__bin=b"x")
    assert "me/bert: this model of the hub is none of wsvad_jax (it has" in refused(
        "me/bert"
    )
    cached = hub_access.cached_folder(hub_access.HubName("me/bert"))
    assert not cached.exists()  # nothing was downloaded


def test_no_network_with_and_without_a_copy(hub, monkeypatch, tmp_path, capsys):
    client.use(monkeypatch, NOWHERE, tmp_path / "home", token="")
    sentence = refused("me/x")
    assert f"{NOWHERE} gives no answer; check the network, and there is no" in sentence

    client.use(monkeypatch, hub, tmp_path / "home", token="")
    wanted = digest(load_checkpoint("me/x"))
    client.use(monkeypatch, NOWHERE, tmp_path / "home", token="")
    capsys.readouterr()
    found = load_checkpoint("me/x")
    assert digest(found) == wanted
    assert f"from the cache ({NOWHERE} gives no answer" in capsys.readouterr().err
    assert "no such folder here" in refused("me/x@v1")  # this one was never here


def test_a_fault_of_the_hub_takes_the_copy(hub, capsys):
    load_checkpoint("me/x")
    words = {503: "the hub has a fault (503)", 429: "the hub has had too many requests"}
    for status, said in words.items():
        hub.status = {"/api/models": status}
        capsys.readouterr()
        load_checkpoint("me/x")
        assert f"from the cache ({said}" in capsys.readouterr().err


def test_a_refusal_does_not_take_the_copy(hub):
    load_checkpoint("me/x")
    del hub.repositories["me/x"]
    assert "the hub has no model of that name" in refused("me/x")


def test_a_download_that_breaks_off_is_continued(hub, monkeypatch, tmp_path):
    from huggingface_hub import file_download
    from huggingface_hub.utils import _http

    for module in (file_download, _http):
        monkeypatch.setattr(module.time, "sleep", lambda _: None)
    hub.cut_download = 3000
    sentence = refused("me/x")
    assert "me/x: the download stopped (" in sentence
    assert "run the same command again, which continues it" in sentence

    # Offline, a part is no model.
    hub.cut_download = 0
    client.use(monkeypatch, hub, tmp_path / "home", token="", offline=True)
    assert "HF_HUB_OFFLINE is set" in refused("me/x")
    client.use(monkeypatch, hub, tmp_path / "home", token="")
    load_checkpoint("me/x")


def test_a_damaged_copy_is_no_model(hub):
    found = find_checkpoint("me/x")
    weights = (found.folder / "model.safetensors").resolve()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    sentence = refused("me/x")
    assert "model.safetensors: the model is damaged (its arrays differ" in sentence
    cached = hub_access.cached_folder(hub_access.HubName("me/x"))
    assert f"delete {cached} and load it again" in sentence

    # Cut off, and gone: the cache holds links.
    weights.write_bytes(data[:100])
    assert "the model is damaged" in refused("me/x")
    shutil.rmtree(cached)
    load_checkpoint("me/x")


def test_a_safetensors_file_that_training_left_behind(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "model")
    from wsvad_jax.weights.tensor_file import write_tensors

    params, stats, _ = load_params(folder)
    write_tensors(
        folder / "model.safetensors", {"params": params, "batch_stats": stats}
    )
    assert read_json(folder / "meta.json")["files"]
    load_params(folder)

    # Weights of another training must not be read in silence.
    changed = {"params": {k: v for k, v in params.items()}, "batch_stats": stats}
    first = _leaves(changed)[0]
    first.flat[0] += 1
    write_tensors(folder / "model.safetensors", changed)
    with pytest.raises(InputError, match="safetensors: the model is damaged"):
        load_params(folder)


def test_a_full_disk(hub, monkeypatch, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if (
        os.geteuid()
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("a small disk needs the right to mount one")
    try:
        client.use(monkeypatch, hub, small, token="")
        with pytest.raises(OSError, match="No space left on device"):
            load_checkpoint("me/x")
    finally:
        subprocess.run(["umount", str(small)], check=False)


def test_only_files_of_a_model_are_downloaded(hub, monkeypatch):
    files = {**hub.files("me/x"), "clip/pytorch_model.bin": b"x", "huge.bin": b"x"}
    hub.create("me/odd")
    hub.commit("me/odd", "main", {**files, "README.md": b"x"})
    found = find_checkpoint("me/odd")
    names = {p.relative_to(found.folder).as_posix() for p in found.folder.rglob("*")}
    assert names == {"meta.json", "model.safetensors"}
    assert hub_model.META in names
