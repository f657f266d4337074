"""`detect --live` killed in the middle of events: every event arrives all the same.

WSVAD_JAX_FAULT_ROUNDS (6) is the number of kills; WSVAD_JAX_FAULT_SEED draws the moments,
and is printed where a test fails.
"""

import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from alarm_servers import broker, webhook
from sample_videos import write_video
from untrained import write_model

ROUNDS = int(os.environ.get("WSVAD_JAX_FAULT_ROUNDS", "6"))
SEED = int(os.environ.get("WSVAD_JAX_FAULT_SEED", random.randrange(10**6)))
REPOSITORY = pathlib.Path(__file__).parent.parent.parent
SNIPPETS = 60
pytestmark = pytest.mark.slow


class Watch:
    """`detect --live` over a video, whose events change at each few snippets."""

    def __init__(self, tiny, folder: pathlib.Path):
        model = write_model(tiny, "mil_ranking", folder / "m", frame="middle")
        self.video = write_video(folder / "video.ts", 16 * SNIPPETS)
        self.command = [
            *(sys.executable, "-m", "wsvad_jax.detect", "--checkpoint", str(model)),
            *("--clip", str(tiny.clip), "--min_length", "0", "--max_gap", "0"),
        ]
        self.level = "0.000001"
        lines = self.lines(self.start("first", "--pace", "0"))
        scores = [x["anomaly"] for x in lines if x["type"] == "snippet"]
        self.level = f"{statistics.median(scores):.6f}"

    def start(self, name: str, *flags: str) -> subprocess.Popen:
        rules = ("--high", self.level, "--low", self.level)
        command = [*self.command, *rules, "--live", f"{name}={self.video}", *flags]
        return subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def lines(process: subprocess.Popen) -> list[dict]:
        """The lines of a process that ends by itself."""
        out, err = process.communicate()
        assert process.returncode == 0, err
        return [json.loads(line) for line in out.splitlines()]


def killed_in_an_event(process: subprocess.Popen, number: int, wait: float):
    """Kills a process `wait` seconds after its n-th event opened; returns its lines."""

    def whole() -> Iterator[dict]:
        for line in process.stdout:
            if line.endswith("\n"):
                yield json.loads(line)

    lines, left, opened = [], whole(), 0
    for line in left:
        lines.append(line)
        opened += line["type"] == "opened"
        if opened == number:
            break
    time.sleep(wait)
    process.kill()
    lines += left
    err = process.stderr.read()
    assert process.wait() == -9, err
    return lines


def test_no_event_is_lost_by_kills_in_its_middle(tiny, tmp_path):
    watch, draws = Watch(tiny, tmp_path), random.Random(f"{SEED} alarms")
    printed, box, kills = [], tmp_path / "box", 0
    with (
        webhook() as hook,
        broker(tmp_path) as mqtt,
        mqtt.subscribed("alarms/#") as published,
    ):
        flags = (
            *("--outbox", str(box), "--webhook", hook.address),
            *("--mqtt", mqtt.address("alarms/hall")),
        )
        rounds = 0
        while kills < ROUNDS:
            rounds += 1
            # A server that is away leaves everything to the outbox.
            hook.away = draws.random() < 0.4
            process = watch.start(f"kill-{rounds}", "--pace", "10", *flags)
            moment = draws.randint(1, 5), draws.uniform(0, 0.15)
            lines = killed_in_an_event(process, *moment)
            types = [x["type"] for x in lines if x["type"] in ("opened", "closed")]
            kills += types[-1] == "opened"
            printed += [x for x in lines if x["type"] in ("opened", "closed")]

        # The next start delivers what is left.
        hook.away = False
        last = watch.lines(watch.start("last", "--pace", "0", *flags))
        printed += [x for x in last if x["type"] in ("opened", "closed")]
        assert not box.exists(), SEED

    for messages in (hook.messages, published):
        check(messages, printed)
    copies = len(hook.messages) - len({m["message_id"] for m in hook.messages})
    print(
        f"{kills} of {rounds} kills in mid-event, {len(printed)} lines, {copies} copies"
    )


def check(messages: list[dict], printed: list[dict]) -> None:
    """Every printed change arrived, every event closed, and copies are copies."""
    by_key: dict[str, dict] = {}
    for message in messages:
        known = by_key.setdefault(message["message_id"], message)
        assert known == message, SEED
    for line in printed:
        message = by_key[f"{line['id']}-{line['type']}"]
        assert {k: message[k] for k in line} == line, SEED

    opened, closed, interrupted = (
        {key.rpartition("-")[0] for key in by_key if key.endswith(kind)}
        for kind in ("-opened", "-closed", "-interrupted")
    )
    assert opened == closed | interrupted and not closed & interrupted, SEED
    assert len(opened) == len({m["id"] for m in messages})
