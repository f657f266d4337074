"""`detect --live` sends what opens and closes, whether or not anybody takes it."""

import io
import json
import pathlib
import threading

import pytest
from alarm_servers import free_port, silent_server, webhook
from sample_videos import write_video
from untrained import write_model

from wsvad_jax.alarms.alarms import Alarms
from wsvad_jax.alarms.outbox import Outbox
from wsvad_jax.alarms.webhook import Webhook
from wsvad_jax.detection import live
from wsvad_jax.detection.detector import Detector
from wsvad_jax.detection.live_sources import LiveSource
from wsvad_jax.evaluation.event_rules import EventRules

ALL = EventRules(high=1e-6, low=1e-6)  # everything is one event
SNIPPETS = 12


@pytest.fixture(scope="module")
def detector(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "m"
    model = write_model(tiny, "mil_ranking", folder, frame="middle")
    return Detector(model, clip=str(tiny.clip))


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> pathlib.Path:
    return write_video(tmp_path_factory.mktemp("videos") / "lobby.ts", 16 * SNIPPETS)


def watch(detector, source, folder, *addresses, **options):
    """Scores a source with sinks; returns the lines."""
    out, sinks = io.StringIO(), [Webhook(address) for address in addresses]
    said = []
    options = {"pace": 0.0, "rules": ALL, **options}
    with Alarms(Outbox(folder), sinks, grace=1.0, say=said.append) as alarms:
        live.run(detector, source, out=out, listeners=[alarms], **options)
    return [json.loads(line) for line in out.getvalue().splitlines()], said


def of(lines, *kinds):
    return [line for line in lines if line["type"] in kinds]


def test_events_of_a_live_file_arrive_with_the_ids_of_their_lines(
    detector, video, tmp_path
):
    with webhook() as hook:
        lines, said = watch(detector, str(video), tmp_path / "box", hook.address)
        named = [LiveSource(str(video), "hall"), LiveSource(str(video), "yard")]
        others, _ = watch(detector, named, tmp_path / "box", hook.address)
    events = of(lines + others, "opened", "closed")
    assert len(events) == 6 and not said
    assert len({event["id"] for event in events}) == 3
    assert len(hook.messages) == 6
    by_key = {message["message_id"]: message for message in hook.messages}
    for event in events:
        message = by_key[f"{event['id']}-{event['type']}"]
        event.pop("source", None)
        assert message.items() >= event.items()
        assert message["source"] in ("lobby", "hall", "yard")
        assert "start_time" not in message  # a file has no time of day

    # The same file gives the same ids.
    again, _ = watch(detector, str(video), tmp_path / "box", "http://127.0.0.1:9/")
    assert of(again, "opened", "closed") == of(lines, "opened", "closed")


class StopAtOpening(live.Listener):
    """Stops the scoring when an event opens."""

    def __init__(self):
        self.stop = threading.Event()

    def line(self, source, line):
        if line["type"] == "opened":
            self.stop.set()


def test_an_event_that_a_stop_cuts_off_is_no_copy_of_the_whole_one(
    detector, video, tmp_path
):
    with webhook() as hook:
        listener = StopAtOpening()
        with Alarms(Outbox(tmp_path / "box"), [Webhook(hook.address)]) as alarms:
            live.run(
                detector,
                str(video),
                ALL,
                pace=0.0,
                out=io.StringIO(),
                stop=listener.stop,
                listeners=[alarms, listener],
            )
        watch(detector, str(video), tmp_path / "box", hook.address)

    closed = {m["message_id"]: m for m in hook.messages if m["type"] == "closed"}
    (cut,) = [m for m in closed.values() if m.get("reason") == "stopped"]
    whole = closed[f"{cut['id']}-closed"]
    assert "reason" not in whole and cut["end"] < whole["end"]


def test_dead_sinks_lose_no_snippets(detector, video, tmp_path):
    """A paced source drops what scoring is too slow for, as ten seconds would be."""
    wanted, _ = watch(detector, str(video), tmp_path / "no", pace=4.0)
    with silent_server() as server:
        dead = f"http://127.0.0.1:{free_port()}/", f"http://{server}/"
        found, said = watch(detector, str(video), tmp_path / "box", *dead, pace=4.0)
    dropped = [of(lines, "end")[0]["dropped"] for lines in (wanted, found)]
    assert dropped[1] - dropped[0] < SNIPPETS / 2  # few, on a busy machine
    left = [text for text in said if "2 messages for" in text and "left in" in text]
    assert len(left) == 2
