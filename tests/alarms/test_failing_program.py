"""A program of --on_event that fails on a message: tried a few times, never lost."""

import json
import pathlib
import shlex
import sys

import pytest
from alarm_servers import until

from wsvad_jax.alarms import command as commands
from wsvad_jax.alarms.alarms import Alarms
from wsvad_jax.alarms.command import EventCommand
from wsvad_jax.alarms.outbox import Outbox

PAUSES = (0.01, 0.05)
# Notes each start, and fails on the events that a file names.
SCRIPT = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
event = json.loads(sys.stdin.read())["id"]
with open(folder / "starts", "a") as f:
    print(event, file=f)
sys.exit(3 if event in (folder / "bad").read_text().split() else 0)
"""


def closed(name):
    return {"type": "closed", "id": name, "start": 1.0, "end": 2.0}


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.setattr(commands.EventCommand, "tries", 3)
    (tmp_path / "bad").write_text("e1")
    words = [sys.executable, "-S", "-c", SCRIPT, str(tmp_path)]
    return EventCommand(shlex.join(words))


def starts(tmp_path):
    path = tmp_path / "starts"
    return path.read_text().split() if path.exists() else []


def run(tmp_path, program, *events, count):
    """Sends events and waits for `count` starts; returns what was printed."""
    said = []
    box = Outbox(tmp_path / "box")
    with Alarms(box, [program], pauses=PAUSES, say=said.append) as alarms:
        for event in events:
            alarms.line("hall", closed(event))
        until(lambda: len(starts(tmp_path)) >= count)
        until(lambda: alarms.outbox.counts(program.identity)[0] == 0)
    return said


def test_a_message_is_set_aside_and_named_and_later_ones_arrive(tmp_path, program):
    said = run(tmp_path, program, "e1", "e2", "e3", count=5)
    assert starts(tmp_path) == ["e1"] * 3 + ["e2", "e3"]
    named = [text for text in said if "failed 3 times on message e1-closed" in text]
    assert len(named) == 1 and "exit code 3" in named[0] and "set aside" in named[0]
    assert "1 message that" in said[-1] and " failed on left in" in said[-1]

    # It is on disk with its reason, and the next start sends it once more.
    with Outbox(tmp_path / "box") as box:
        assert box.counts(program.identity) == (0, 1)
        box.release_refused(program.identity)
        kept = json.loads(box.first(program.identity).message.body)
    assert kept["id"] == "e1"
    (tmp_path / "bad").write_text("")
    run(tmp_path, program, count=6)
    assert starts(tmp_path)[5:] == ["e1"]
    assert not (tmp_path / "box").exists() or not list((tmp_path / "box").iterdir())


def test_the_documented_number_of_tries_is_the_programs():
    assert EventCommand.tries == commands.TRIES == 8
    page = pathlib.Path(__file__).parent.parent.parent / "docs/alarms.md"
    assert f"Tried {commands.TRIES} times" in page.read_text()
