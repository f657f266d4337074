"""Events through outbox and sinks: at least once, in order, and never waited for."""

import json
import re
import time

import pytest
from alarm_servers import free_port, silent_server, until, webhook

from wsvad_jax.alarms import event_ids
from wsvad_jax.alarms.alarms import Alarms
from wsvad_jax.alarms.outbox import Outbox
from wsvad_jax.alarms.webhook import Webhook

PAUSES = (0.02, 0.1)
CAMERA = {
    "type": "start",
    "source": "rtsp://user:geheim@camera/1",
    "began": "2026-03-01T23:59:50+00:00",
}
OPENED = {
    "type": "opened",
    "id": "e1",
    "start": 12.5,
    "class": "Fire",
    "score": 0.9,
    "time": 14.0,
}
CLOSED = {
    "type": "closed",
    "id": "e1",
    "start": 12.5,
    "end": 20.0,
    "class": "Fire",
    "score": 0.95,
}


def closed(start: float) -> dict:
    return CLOSED | {"id": f"e{start}", "start": start}


class Said(list):
    """Sentences that were printed."""

    def __call__(self, sentence: str) -> None:
        assert "\n" not in sentence
        self.append(sentence)


def open_alarms(folder, *addresses, said=None, grace=5.0, limit=100):
    said = Said() if said is None else said
    sinks = [Webhook(address) for address in addresses]
    return Alarms(
        Outbox(folder, limit=limit), sinks, pauses=PAUSES, grace=grace, say=said
    )


def test_an_event_of_a_camera_arrives_with_its_time_of_day(tmp_path):
    where = {"path": "hall.mp4", "start": 7.5}
    with webhook() as hook, open_alarms(tmp_path / "box", hook.address) as alarms:
        for line in (CAMERA, OPENED, {"type": "snippet", "anomaly": 0.3}):
            alarms.line("hall", line)
        alarms.line("hall", CLOSED | {"clip": where})
        alarms.line("hall", {"type": "clip", "source": "h", "id": "e1", **where})
        alarms.line("hall", {"type": "clip", "id": None, **where})  # of no event
        until(lambda: len(hook.messages) == 3)
    first, second, third = hook.messages
    assert first == {
        "format": 1,
        "message_id": "e1-opened",
        "source": "hall",
        **OPENED,
        "start_time": "2026-03-02T00:00:02.500+00:00",
    }
    assert second["message_id"] == "e1-closed"
    assert second["end_time"] == "2026-03-02T00:00:10.000+00:00"
    assert second["clip"] == where and second["type"] == "closed"
    head = {"format": 1, "message_id": "e1-clip", "source": "hall"}
    assert third == {**head, "type": "clip", "id": "e1", "clip": where}
    assert not (tmp_path / "box").exists()


def test_ids_repeat_with_a_file_and_differ_between_starts_of_a_camera(tmp_path):
    def id_of(name, address, began="2026-03-01T23:59:50+00:00", start=12.5, model="m"):
        origin = event_ids.origin_of(name, str(address), began)
        return origin.event_id(event_ids.mark_of({"weights": model}), start)

    paths = [tmp_path / name for name in ("a.mp4", "copy.mp4", "b.mp4")]
    for path, content in zip(paths, (b"1" * 9, b"1" * 9, b"2" * 9), strict=True):
        path.write_bytes(content)
    a, copy, b = paths
    camera, later = "rtsp://camera/1", "2026-03-02T23:59:50+00:00"

    assert id_of("hall", camera) == id_of("hall", camera)
    assert re.fullmatch("[0-9a-f]{32}", id_of("hall", camera))
    assert id_of("hall", a) == id_of("hall", a, later) == id_of("hall", copy)
    different = [
        *(id_of("hall", camera), id_of("hall", camera, later)),
        *(id_of("hall", a), id_of("hall", b), id_of("yard", a)),
        *(id_of("hall", a, model="n"), id_of("hall", a, start=12.501)),
    ]
    assert len(set(different)) == len(different)


def test_events_of_files_are_sent_as_closed(tmp_path):
    event = {"id": "e1", "start": 1.0, "end": 2.0, "class": "Fire", "score": 0.9}
    with webhook() as hook, open_alarms(tmp_path / "box", hook.address) as alarms:
        alarms.event(event, "lobby")
        until(lambda: hook.messages)
        alarms.event(event, "lobby")
    message = {"format": 1, "message_id": "e1-closed", "source": "lobby"}
    assert hook.messages == [{**message, "type": "closed", **event}] * 2


def test_a_server_that_comes_back_gets_everything_in_order(tmp_path):
    said = Said()
    with webhook() as hook:
        hook.answers = [503] * 5
        with open_alarms(tmp_path / "box", hook.address, said=said) as alarms:
            alarms.line("hall", CAMERA)
            for number in range(4):
                alarms.line("hall", closed(float(number)))
            until(lambda: len(hook.messages) == 4)
    assert [message["start"] for message in hook.messages] == [0, 1, 2, 3]
    # The 1st, 2nd and 4th failure, with pauses that double up to the longest.
    pauses = [re.search(r"next try in (\S+) s", text) for text in said]
    assert [float(p[1]) for p in pauses if p] == [0.02, 0.04, 0.1]
    assert said[-1].endswith("takes messages again") and "geheim" not in str(said)


def test_what_is_not_delivered_is_left_and_delivered_by_the_next_start(tmp_path):
    box, said, port = tmp_path / "box", Said(), free_port()
    address = f"http://user:geheim@127.0.0.1:{port}/geheim"
    with open_alarms(box, address, said=said, grace=1.0) as alarms:
        alarms.line("hall", CAMERA)
        alarms.line("hall", CLOSED)
    assert said[-1] == (
        f"1 message for http://127.0.0.1:{port}/… left in {box}; the next start with the "
        "same --webhook and --outbox delivers them"
    )

    # Another sink doesn't get it, and says whom it is for.
    with webhook() as hook:
        with open_alarms(box, hook.address, said=said):
            pass
        assert f"for http://127.0.0.1:{port}/…, which isn't among" in said[-1]
        assert not hook.messages

    assert b"geheim" not in b"".join(p.read_bytes() for p in box.iterdir())

    # The same address with another password does.
    with webhook(port) as hook, open_alarms(box, address.replace(":geheim@", ":x@")):
        until(lambda: hook.messages)
    assert hook.messages[0]["start"] == 12.5 and not box.exists()
    assert "geheim" not in str(said)


def test_a_refused_message_is_set_aside_said_and_tried_once_by_the_next_start(tmp_path):
    box, said = tmp_path / "box", Said()
    with webhook() as hook:
        hook.answers = [404]
        for _ in range(2):
            with open_alarms(box, hook.address, said=said) as alarms:
                alarms.line("hall", CAMERA)
                if not hook.paths:
                    alarms.line("hall", CLOSED)
                    alarms.line("hall", closed(13.0))
                until(lambda: len(hook.messages) == 1 or len(hook.paths) == 3)
    assert [message["start"] for message in hook.messages] == [13, 12.5]
    assert len(hook.paths) == 3
    assert "HTTP 404" in said[0] and "refused left in" in said[1]


def test_events_left_open_are_closed_as_interrupted(tmp_path):
    """As after a kill: the process that opened one never closes it."""
    box = tmp_path / "box"
    with webhook() as hook:
        killed = open_alarms(box, hook.address)
        killed.outbox.__enter__()  # nothing is delivered, nothing is closed
        killed.line("hall", CAMERA)
        killed.line("hall", OPENED)
        killed.outbox.__exit__()
        with open_alarms(box, hook.address):
            until(lambda: len(hook.messages) == 2)
    first, last = hook.messages
    assert first["type"] == "opened" and first["id"] == last["id"] == "e1"
    assert (last["type"], last["reason"], last["end"]) == (
        "closed",
        "interrupted",
        None,
    )
    assert last["message_id"] == "e1-interrupted" and "time" not in last
    assert last["class"] == "Fire" and not box.exists()


def test_a_kill_before_the_removal_sends_a_copy(tmp_path):
    box = tmp_path / "box"
    with webhook() as hook:
        killed = open_alarms(box, hook.address)
        killed.outbox.__enter__()
        killed.line("hall", CAMERA)
        killed.line("hall", CLOSED)
        killed.sinks[0].send(killed.outbox.first(killed.identities[0]).message)
        killed.outbox.__exit__()
        with open_alarms(box, hook.address):
            until(lambda: len(hook.messages) == 2)
    assert hook.messages[0] == hook.messages[1]
    assert {h["Idempotency-Key"] for h in hook.headers} == {"e1-closed"}


def test_a_scoring_that_fails_closes_its_events(tmp_path):
    with (
        webhook() as hook,
        pytest.raises(KeyError),
        open_alarms(tmp_path / "box", hook.address) as alarms,
    ):
        alarms.line("hall", CAMERA)
        alarms.line("hall", OPENED)
        raise KeyError("the source failed")
    assert [m.get("reason") for m in hook.messages] == [None, "interrupted"]


def test_dead_sinks_are_not_waited_for(tmp_path):
    """A hundred events take no longer beside sinks that refuse or never answer."""
    said = Said()
    with silent_server() as server, webhook() as hook:
        dead = f"http://127.0.0.1:{free_port()}/", f"http://{server}/"
        with open_alarms(
            tmp_path / "box", *dead, hook.address, said=said, grace=0.5, limit=50
        ) as alarms:
            alarms.line("hall", CAMERA)
            begin = time.monotonic()
            for number in range(100):
                alarms.line("hall", closed(float(number)))
            took = time.monotonic() - begin
            until(lambda: hook.messages and hook.messages[-1]["start"] == 99)
            # The silent server still has its first message, for ten seconds.
            assert took < 10.0 and alarms.deliveries[1].failures == 0
            assert alarms.outbox.counts(alarms.identities[1]) == (50, 0)
    assert any("is full (50 messages per sink)" in text for text in said)
    assert sum("50 messages for" in text and "dropped" in text for text in said) == 2
    with Outbox(tmp_path / "box") as outbox:
        kept = json.loads(outbox.first(alarms.identities[0]).message.body)
    assert kept["start"] == 50  # the newest fifty


class Slow:
    """A sink that takes a moment for each message, and has a fault at first."""

    flag, shown, identity, tries = "--slow", "slow", "slow", None

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.faults = 1

    def send(self, message):
        time.sleep(0.1)
        if self.faults:
            self.faults -= 1
            raise AttributeError("geheim")
        self.taken.append(message.key)

    def close(self) -> None:
        pass


def test_a_slow_sink_that_takes_messages_is_waited_for_at_the_end(tmp_path):
    sink, said = Slow(), Said()
    box = Outbox(tmp_path / "box")
    with Alarms(box, [sink], pauses=PAUSES, grace=0.5, say=said) as alarms:
        alarms.line("hall", CAMERA)
        for number in range(12):
            alarms.line("hall", closed(float(number)))
    assert len(sink.taken) == 12
    # A fault doesn't end the thread, and is said.
    assert "a fault of this program, AttributeError" in said[0]
    assert "geheim" not in str(said)
