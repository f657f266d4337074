"""`detect` sends the events of files, and says what couldn't be sent."""

import json
import pathlib

import numpy as np
import pytest
from alarm_servers import free_port, webhook
from sample_videos import write_video
from untrained import write_model

from wsvad_jax import detect
from wsvad_jax.utils.errors import InputError


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    return write_model(tiny, "mil_ranking", tmp_path_factory.mktemp("model") / "m")


@pytest.fixture
def features(tmp_path):
    """Two feature files, in which everything is one event."""
    folder = tmp_path / "features"
    folder.mkdir()
    for seed, name in enumerate(("a", "b")):
        values = np.random.RandomState(seed).standard_normal((1, 20, 32))
        np.save(folder / f"{name}.npy", values.astype(np.float16))
    return folder


def run(model, features, output, *more):
    rules = ("--high", "0.000001", "--low", "0.000001")
    main = (str(features), "--checkpoint", str(model), "--output", str(output))
    return detect.main([*main, *rules, "--quiet", *more])


def events(output):
    videos = json.loads((output / "events.json").read_text())["videos"]
    return {v["video"]: v["events"] for v in videos}


def test_each_event_of_each_file_arrives_with_the_same_id_in_a_rerun(
    model, features, tmp_path
):
    with webhook() as hook:
        for name in ("one", "two"):
            # Copies have the ids of their originals.
            moved = features.rename(tmp_path / f"moved-{name}")
            features = moved
            assert run(model, moved, tmp_path / name, "--webhook", hook.address) == 0
    found = events(tmp_path / "one")
    assert sum(map(len, found.values())) == 2 and len(hook.messages) == 4
    ids = [message["message_id"] for message in hook.messages]
    assert len(set(ids)) == 2 and sorted(ids[:2]) == sorted(ids[2:])
    for message in hook.messages[:2]:
        (event,) = found[message["source"]]
        assert message.items() >= event.items() and message["type"] == "closed"
        assert message["path"] == str(tmp_path / f"moved-one/{message['source']}.npy")
    assert not (tmp_path / "one/outbox").exists()


def test_a_server_that_is_away_delays_only_the_end_and_gets_it_next_time(
    model, features, tmp_path, capsys
):
    port = free_port()
    secret = f"http://user:geheim@127.0.0.1:{port}/geheim"
    assert run(model, features, tmp_path / "out", "--webhook", secret) == 0
    assert len(events(tmp_path / "out")) == 2
    out, err = capsys.readouterr()
    assert "2 messages for http://127.0.0.1:" in err and "the next start" in err
    assert "geheim" not in out + err

    empty = features.parent / "empty"
    empty.mkdir()
    np.save(empty / "c.npy", np.zeros((1, 3, 32), np.float16))
    with webhook(port) as hook:
        more = ("--outbox", str(tmp_path / "out/outbox"), "--webhook", secret)
        assert run(model, empty, tmp_path / "two", *more, "--min_length", "99") == 0
    assert sorted(message["source"] for message in hook.messages) == ["a", "b"]
    assert not (tmp_path / "out/outbox").exists()


def test_a_message_names_the_clip_of_its_event(model, tiny, tmp_path):
    video = write_video(tmp_path / "lobby.mp4", 160)
    with webhook() as hook:
        more = ("--clip", str(tiny.clip), "--force", "--webhook", hook.address)
        clips = ("--clips", str(tmp_path / "clips"))
        assert run(model, video, tmp_path / "out", *more, *clips) == 0
    (message,) = hook.messages
    assert message["source"] == "lobby" and message["path"] == str(video)
    assert message["clip"] == events(tmp_path / "out")["lobby"][0]["clip"]
    assert pathlib.Path(message["clip"]["path"]).is_file()


def test_a_program_gets_each_event(model, features, tmp_path):
    target = tmp_path / "my events"
    command = f"sh -c 'cat >> \"{target}\"'"
    assert run(model, features, tmp_path / "out", "--on-event", command) == 0
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert sorted(line["source"] for line in lines) == ["a", "b"]


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (("--webhook", "http://h/x", "--outbox", "OUT"), "is the folder of --output"),
        (("--webhook", "http://h/x", "--outbox", "http://box"), "is an address"),
        (("--outbox", "box"), "no effect without a sink"),
        (("--webhook", "http://h/x", "--outbox", " "), "--outbox is empty"),
        (("--webhook", "http://h/x", "--webhook", "http://u:p@h/x"), "given twice"),
        (
            ("--on_event", "cat x", "--on-event", "cat  x"),
            "--on_event cat: given twice",
        ),
        (("--webhook", ""), "--webhook is empty"),
        (("--mqtt", "broker"), "the address has no scheme"),
    ],
)
def test_flags_that_contradict_each_other(flags, match, tmp_path):
    flags = [flag.replace("OUT", str(tmp_path / "out")) for flag in flags]
    with pytest.raises(InputError, match=match):
        run(tmp_path / "no model", tmp_path, tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_an_outbox_that_is_a_file_is_refused(model, features, tmp_path):
    (tmp_path / "mine").write_text("mine")
    more = ("--webhook", "http://h/x", "--outbox", str(tmp_path / "mine"))
    with pytest.raises(InputError, match="is a file; expected a folder"):
        run(model, features, tmp_path / "out", *more)
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "out").exists()
