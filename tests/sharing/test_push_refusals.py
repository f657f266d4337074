"""What a push refuses, each in one sentence, and what is left on the hub."""

import re
import shutil

import hub_client as client
import hub_server
import pytest
from huggingface_hub import ModelCard
from untrained import write_model

from wsvad_jax import push
from wsvad_jax.utils import hub_access
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json
from wsvad_jax.weights.hub_model import find_checkpoint

NOWHERE = "http://127.0.0.1:9"  # the port of "discard", where nobody listens


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    """A model that reads no words, so that no CLIP model is needed."""
    return write_model(tiny, "mil_ranking", tmp_path_factory.mktemp("run") / "model")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with hub_server.running() as hub:
        client.use(monkeypatch, hub, tmp_path)
        yield hub


def refused(*words) -> str:
    """The sentence that a push ends with."""
    with pytest.raises(InputError) as e:
        push.main([str(word) for word in words])
    sentence = str(e.value)
    assert "\n" not in sentence and "hf_" not in sentence.replace("hf_hub", "")
    return sentence


@pytest.mark.parametrize(
    "name",
    ["", " ", "me", "me/", "/name", "me/a/b", "me/my model", "me/ü", "me/a--b",
     "me/a..b", "me/x.git", "me/x@", "me/x@a b", "../x", "~/x", "me\\x",
     "https://huggingface.co/me/x", f"me/{'a' * 97}", "me/x\n", "nan", "me/x@y@z"],
)  # fmt: skip
def test_a_name_that_is_none(model, name):
    sentence = refused(model, name, "--dry_run")
    assert "not a name of the Hugging Face hub, which is USER/NAME" in sentence


def test_a_folder_that_is_no_model(model, tmp_path, capsys):
    (tmp_path / "file").touch()
    for folder in ("", tmp_path / "nowhere", tmp_path / "file"):
        assert "no such folder; expected a workdir" in refused(folder, "me/x")
    assert "no model here (meta.json is missing)" in refused(tmp_path, "me/x")
    for licence in ("", " ", "MIT", "ü", "a b", "x" * 70, "../x", "[mit]", "a\nb"):
        assert "expected an identifier of the hub" in refused(
            model, "me/x", f"--license={licence}"
        )
    with pytest.raises(SystemExit):
        push.main([str(model), "me/x", "--private", "--public"])
    assert "--public: not allowed with argument --private" in capsys.readouterr().err


def test_a_token_that_is_wrong(hub, model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    sentence = refused(model, "me/x")
    assert "refuses the token of this account (401); log in again" in sentence
    assert "hf_wrong" not in sentence and "me/x" not in hub.repositories


def test_no_token(hub, model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    sentence = refused(model, "me/x")
    assert "me/x: could not create it: the hub refuses nobody's token" in sentence
    assert not hub.repositories


def test_a_repository_of_somebody_else(hub, model):
    assert "could not create it: the token of this account has no right" in refused(
        model, "other/new"
    )
    hub.create("other/theirs", meta__json=b"{}")
    before = dict(hub.files("other/theirs"))
    assert "has no right to do that there (403); nothing was changed" in refused(
        model, "other/theirs"
    )
    assert hub.files("other/theirs") == before


def test_another_kind_of_model_is_not_replaced(hub, model):
    hub.create("me/bert", config__json=b"{}", pytorch_model__bin=b"x")
    assert "me/bert: holds another kind of model" in refused(model, "me/bert")
    assert "README.md" not in hub.files("me/bert")


def test_a_visibility_that_contradicts_the_flag(hub, model):
    hub.create("me/open")
    hub.create("me/closed", private=True)
    assert "is public already, which --private doesn't change" in refused(
        model, "me/open", "--private"
    )
    assert "is private already, which --public doesn't change" in refused(
        model, "me/closed", "--public"
    )
    assert push.main([str(model), "me/closed"]) == 0
    assert hub.repositories["me/closed"]["private"]


def test_new_is_private_and_a_second_push_replaces_the_first(hub, model, capsys):
    assert push.main([str(model), "me/x"]) == 0
    assert "(private), commit" in capsys.readouterr().out
    assert hub.repositories["me/x"]["private"]

    # What an earlier push left and is no part of the model goes; the rest stays.
    files = {**hub.files("me/x"), "clip/config.json": b"{}", "NOTES.md": b"mine"}
    hub.commit("me/x", "main", files)
    assert push.main([str(model), "me/x"]) == 0
    assert "NOTES.md" in hub.files("me/x") and "clip/config.json" not in hub.files(
        "me/x"
    )


def test_a_branch_gets_the_model_and_main_stays(hub, model):
    hub.create("me/x")
    assert push.main([str(model), "me/x@v1"]) == 0
    assert "meta.json" in hub.files("me/x", "v1")
    assert "meta.json" not in hub.files("me/x")


def test_no_network(model, monkeypatch, tmp_path):
    client.use(monkeypatch, NOWHERE, tmp_path)
    assert f"me/x: {NOWHERE} gives no answer; check the network" in refused(
        model, "me/x"
    )
    client.use(monkeypatch, NOWHERE, tmp_path, offline=True)
    assert "me/x: HF_HUB_OFFLINE is set; unset it" in refused(model, "me/x")
    assert push.main([str(model), "me/x", "--dry_run"]) == 0


def test_a_hub_with_a_fault(hub, model):
    hub.status = {"/api/models": 503}
    assert "the hub has a fault (503); try again later" in refused(model, "me/x")
    hub.status = {"/commit/": 429}
    sentence = refused(model, "me/x")
    assert "too many requests (429)" in sentence
    assert "nothing was changed there beyond creating it, an empty rep" in sentence
    hub.status = {}
    assert push.main([str(model), "me/x"]) == 0


def test_an_upload_that_breaks_off(hub, model, monkeypatch):
    from huggingface_hub.utils import _http

    monkeypatch.setattr(_http.time, "sleep", lambda _: None)  # between its attempts
    hub.create("me/x", README__md=b"as it was")
    before = dict(hub.files("me/x"))
    hub.cut_upload = 1000
    sentence = refused(model, "me/x")
    assert re.search("could not push to it: .*; nothing was changed there$", sentence)
    assert hub.files("me/x") == before
    hub.cut_upload = 0
    assert push.main([str(model), "me/x"]) == 0


def test_somebody_pushes_meanwhile(hub, model, monkeypatch):
    hub.create("me/x")
    ask = hub_access.ask

    def slow(*arguments):
        found = ask(*arguments)
        hub.commit("me/x", "main", dict(hub.files("me/x")))
        return found

    monkeypatch.setattr(hub_access, "ask", slow)
    assert "somebody else has changed it meanwhile (412)" in refused(model, "me/x")


def test_a_clip_model_of_this_machine(hub, tiny, tmp_path, capsys):
    folder = write_model(tiny, "vadclip", tmp_path / "run" / "model")
    sentence = refused(folder, "me/x")
    assert f"is a folder of this machine ({tiny.clip}), so nobody else" in sentence
    assert "pass --with_clip to push it along" in sentence

    # The features of a model without words: videos alone need it.
    meta = read_json(folder / "meta.json")
    meta["tower"]["clip"] = "me/clip"
    meta["card"]["clip"] = str(tiny.clip)
    write_json(folder / "meta.json", meta)
    assert "me/clip: the CLIP model that the model needs is not found" in refused(
        folder, "me/x"
    )
    assert not hub.repositories
    hub.create("me/clip")
    assert push.main([str(folder), "me/x"]) == 0
    assert "others can score features only" in capsys.readouterr().out
    assert str(tiny.root).encode() not in hub.files("me/x")["meta.json"]


def test_what_somebody_wrote_into_the_card_takes_precedence(hub, tiny, tmp_path):
    folder = write_model(tiny, "mil_ranking", tmp_path / "run" / "model")
    card = tmp_path / "run" / "MODEL_CARD.md"
    card.write_bytes(b"---\r\nlicense: mit\r\ntags: [mine]\r\n---\r\n# Mine\r\n")
    assert push.main([str(folder.parent), "me/x"]) == 0
    text = hub.files("me/x")["README.md"].decode()
    data = ModelCard(text, ignore_metadata_errors=False).data
    assert (data.license, data.tags, data.library_name) == (
        "mit",
        ["mine"],
        "wsvad_jax",
    )
    assert "# Mine" in text and "## Use" in text

    # A flag is newer than the file.
    assert push.main([str(folder.parent), "me/x", "--license", "apache-2.0"]) == 0
    data = ModelCard(hub.files("me/x")["README.md"].decode()).data
    assert data.license == "apache-2.0"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"---\nlicense: [\n---\n# x\n", "the hub can't read the metadata between"),
        (b"---\nmodel-index: 5\n---\n# x\n", "the hub can't read the metadata between"),
        (b"\xff\xfe\xff", "MODEL_CARD.md: expected text in UTF-8"),
        (b"my token is hf_" + b"a" * 34, "would show a token of the hub"),
        # A longer path would be cut to its last part.
        (b"as in /secret", "README.md: would show /secret"),
    ],
)
def test_a_card_that_can_not_be_shared(
    hub, tiny, tmp_path, monkeypatch, content, words
):
    monkeypatch.setenv("HOME", "/secret")
    folder = write_model(tiny, "mil_ranking", tmp_path / "run" / "model")
    (tmp_path / "run" / "MODEL_CARD.md").write_bytes(content)
    assert words in refused(folder, "me/x", "--dry_run")


def test_results_of_another_model_stay_here(hub, tiny, tmp_path, capsys):
    folder = write_model(tiny, "mil_ranking", tmp_path / "run" / "model")
    values = {"model": "mil_ranking", "step": 7, "auc": 0.5}
    write_json(tmp_path / "run" / "results.json", values)
    assert push.main([str(folder), "me/x", "--dry_run"]) == 0
    assert "is not of this model" in capsys.readouterr().out
    write_json(
        tmp_path / "run" / "results.json", {**values, "step": 0, "ap": float("nan")}
    )
    assert push.main([str(folder), "me/x"]) == 0
    data = ModelCard(hub.files("me/x")["README.md"].decode()).data
    assert [row.metric_type for row in data.eval_results or ()] == ["auc"]


def test_a_damaged_model_stays_here(hub, tiny, tmp_path):
    folder = write_model(tiny, "mil_ranking", tmp_path / "model")
    largest = max((folder / "params").rglob("*"), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-20])
    assert "the model is damaged" in refused(folder, "me/x")
    assert not hub.repositories


def test_what_came_from_the_hub_can_be_pushed_again(hub, model, capsys):
    assert push.main([str(model), "me/x"]) == 0
    folder = find_checkpoint("me/x").folder
    assert push.main([str(folder), "me/again"]) == 0
    names = set(hub.files("me/again")) - {".gitattributes"}
    assert names == {"README.md", "meta.json", "model.safetensors"}
    before, after = (hub.files(f"me/{n}")["model.safetensors"] for n in ("x", "again"))
    assert before == after


def test_training_again_removes_the_copy_of_older_weights(tiny, tmp_path):
    folder = write_model(tiny, "mil_ranking", tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"older weights")
    write_model(tiny, "mil_ranking", folder)
    assert not (folder / "model.safetensors").exists()


def test_a_relative_clip_folder_is_no_name_of_the_hub(hub, tiny, tmp_path, monkeypatch):
    folder = write_model(tiny, "vadclip", tmp_path / "run" / "model")
    shutil.copytree(tiny.clip, tmp_path / "clips" / "mine")
    monkeypatch.chdir(tmp_path)
    meta = read_json(folder / "meta.json")
    meta["tower"]["clip"] = "clips/mine"
    write_json(folder / "meta.json", meta)
    assert "is a folder of this machine (clips/mine)" in refused(folder, "me/x")
    assert push.main([str(folder), "me/x", "--with_clip"]) == 0
    assert "clip/model.safetensors" in hub.files("me/x")

    # Elsewhere there is no such folder.
    monkeypatch.chdir("/")
    assert find_checkpoint("me/x").folder.joinpath("clip", "config.json").is_file()
