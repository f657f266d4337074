"""What is in the outbox survives, in its order, up to its limit."""

import json
import sqlite3
import subprocess
import sys

import pytest

from wsvad_jax.alarms.outbox import Outbox
from wsvad_jax.alarms.sinks import Message
from wsvad_jax.utils.errors import InputError


def message(number: int, **more) -> Message:
    return Message.of({"message_id": f"m{number}", "n": number, **more})


def keys(outbox: Outbox, sink: str) -> list[str]:
    """Takes all messages of a sink out, in their order."""
    found = []
    while (waiting := outbox.first(sink)) is not None:
        found.append(waiting.message.key)
        outbox.remove(waiting)
    return found


def test_messages_wait_for_each_sink_in_their_order(tmp_path):
    with Outbox(tmp_path / "box") as outbox:
        for number in range(3):
            outbox.add(message(number), ["a", "b"])
        assert keys(outbox, "a") == ["m0", "m1", "m2"]
        assert outbox.counts("a") == (0, 0) and outbox.counts("b") == (3, 0)
    with Outbox(tmp_path / "box") as outbox:
        assert keys(outbox, "b") == ["m0", "m1", "m2"]
    assert not (tmp_path / "box").exists()  # nothing waits


def test_a_killed_process_leaves_what_add_has_returned_for(tmp_path):
    script = (
        "import os, sys\n"
        "from wsvad_jax.alarms.outbox import Outbox\n"
        "from wsvad_jax.alarms.sinks import Message\n"
        "with Outbox(sys.argv[1]) as outbox:\n"
        "    m = Message.of({'message_id': 'e-opened', 'id': 'e'})\n"
        "    outbox.add(m, ['a'], opens='e')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "box")]
    run = subprocess.run(command, check=False)
    assert run.returncode == -9
    with Outbox(tmp_path / "box") as outbox:
        assert outbox.open_events() == [({"message_id": "e-opened", "id": "e"}, ["a"])]
        outbox.add(message(1), ["a"], closes="e")
        assert outbox.open_events() == []
        assert keys(outbox, "a") == ["e-opened", "m1"]


def test_a_newer_message_replaces_one_of_its_key_and_is_not_lost(tmp_path):
    with Outbox(tmp_path) as outbox:
        outbox.add(message(1, score=0.5), ["a"])
        on_its_way = outbox.first("a")
        outbox.add(message(1, score=0.9), ["a"])
        outbox.remove(on_its_way)
        assert json.loads(outbox.first("a").message.body)["score"] == 0.9


def test_a_full_outbox_drops_the_oldest_and_counts_them(tmp_path):
    with Outbox(tmp_path, limit=3) as outbox:
        for number in range(8):
            outbox.add(message(number), ["a", "b"] if number > 6 else ["a"])
        assert outbox.dropped == {"a": 5}
        assert keys(outbox, "a") == ["m5", "m6", "m7"] and keys(outbox, "b") == ["m7"]


def test_a_refused_message_is_kept_and_released_once_asked(tmp_path):
    with Outbox(tmp_path) as outbox:
        for number in range(2):
            outbox.add(message(number), ["a"])
        outbox.set_aside(outbox.first("a"), "HTTP 400")
        assert outbox.first("a").message.key == "m1" and outbox.counts("a") == (1, 1)
    with Outbox(tmp_path) as outbox:
        assert outbox.release_refused("a") == 1
        assert keys(outbox, "a") == ["m0", "m1"]


def test_messages_are_held_in_memory_while_the_disk_is_full(tmp_path):
    """SQLite's own limit of pages stands for the disk's."""
    with Outbox(tmp_path) as outbox:
        outbox.add(message(0, id="e"), ["a"], opens="e")
        pages = outbox._value("PRAGMA page_count")
        outbox._connection.execute(f"PRAGMA max_page_count = {pages}")
        big = message(1, text="x" * 100_000)
        outbox.add(big, ["a"], closes="e")
        assert outbox.in_memory("a") == 1 and outbox.open_events() == []
        assert "full" in outbox.failure
        assert outbox.counts("a") == (2, 0)
        assert outbox.first("a").message.key == "m0"
        outbox.remove(outbox.first("a"))
        assert outbox.first("a").message == big
        outbox._connection.execute("PRAGMA max_page_count = 1000000")
        outbox.add(message(2), ["a"])
        assert not outbox.failure and outbox.in_memory("a") == 0
        assert outbox.open_events() == []
        assert sorted(keys(outbox, "a")) == ["m1", "m2"]


def test_one_process_at_a_time_uses_an_outbox(tmp_path):
    with Outbox(tmp_path) as outbox:
        outbox.add(message(0), ["a"])
        with pytest.raises(InputError, match="is working in this folder"):
            Outbox(tmp_path).__enter__()
        assert keys(outbox, "a") == ["m0"]


def test_what_is_no_outbox_is_refused_and_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file; expected a folder"):
        Outbox(tmp_path / "file").__enter__()
    for name, content in (("text", b"no database" * 99), ("other", None)):
        path = tmp_path / name / "outbox.sqlite"
        path.parent.mkdir()
        if content is None:
            db = sqlite3.connect(path)
            db.execute("CREATE TABLE mine (x)")
            db.close()
            content = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(InputError, match="no outbox of this program"):
            Outbox(path.parent).__enter__()
        assert path.read_bytes() == content


def test_a_disk_that_is_full_at_the_start_is_named_and_nothing_is_left(
    tmp_path, monkeypatch
):
    """A limit of pages, set when the file is opened, stands for the disk's."""
    connect = sqlite3.connect

    def on_a_full_disk(*arguments, **options):
        db = connect(*arguments, **options)
        db.execute("PRAGMA max_page_count = 1")
        return db

    monkeypatch.setattr(sqlite3, "connect", on_a_full_disk)
    with pytest.raises(InputError, match="is full.; make room on its disk") as error:
        Outbox(tmp_path / "box").__enter__()
    assert "damaged" not in str(error.value)
    assert not (tmp_path / "box").exists()


@pytest.mark.parametrize("folder", ["/proc/box", "x" * 300, "a\0b", "/dev/null/x"])
def test_folders_that_cannot_be_made_are_refused(folder):
    with pytest.raises(InputError, match="^--outbox .* can't be written") as error:
        Outbox(folder).__enter__()
    assert len(str(error.value)) < 450


def test_messages_for_other_sinks_are_named_without_secrets(tmp_path):
    with Outbox(tmp_path) as outbox:
        outbox.register({"a": "https://one/…", "b": "mqtt://two/t"})
        outbox.add(message(0), ["a", "b"])
        assert outbox.others(["a"]) == {"mqtt://two/t": 1}


def test_any_name_of_a_file_can_be_stored(tmp_path):
    with Outbox(tmp_path) as outbox:
        outbox.add(message(0, video="\udcff\ud800 é\n\0"), ["a"])
        body = outbox.first("a").message.body
        assert body.isascii() and "\n" not in body
        assert json.loads(body)["video"] == "\udcff\ud800 é\n\0"
