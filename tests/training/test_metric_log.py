"""Metric files equal an uninterrupted run's; the table reads well."""

import json
import os
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest
from tiny import REPOSITORY

from wsvad_jax.metrics.frame_level import EvalVideo, evaluate
from wsvad_jax.results.history import FILE, read_history
from wsvad_jax.results.results_table import results_table
from wsvad_jax.training.metric_log import EVENTS, MetricWriter


def write_run(workdir, steps, resume_step=0, **options):
    with MetricWriter(workdir, resume_step=resume_step, **options) as writer:
        for step in steps:
            writer.write(step, {"loss": 1 / step, "mil": np.float32(0.5)})
            if step % 4 == 0:
                writer.write(step, {"heldout/video_auc": 0.1 * step})


def test_one_object_a_line(tmp_path):
    with MetricWriter(tmp_path / "run", tensorboard=False) as writer:
        writer.write(1, {"loss": np.float32(0.5), "map": (0.1, None), "count": 3})
        writer.write(2, {"loss": float("nan"), "auc": None})
        assert writer.history()[0]["loss"] == 0.5  # readable while it is written
    lines = (tmp_path / "run" / FILE).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "loss": 0.5, "map": [0.1, None], "count": 3},
        {"step": 2, "loss": None, "auc": None},
    ]
    assert "NaN" not in lines[1]


def test_resumed_file_equals_uninterrupted(tmp_path):
    write_run(tmp_path / "straight", range(1, 11), tensorboard=False)
    write_run(tmp_path / "resumed", range(1, 8), tensorboard=False)
    path = tmp_path / "resumed" / FILE
    path.write_text(path.read_text() + '{"step": 8, "lo')  # killed within a line
    write_run(tmp_path / "resumed", range(5, 11), resume_step=4, tensorboard=False)
    assert path.read_bytes() == (tmp_path / "straight" / FILE).read_bytes()
    assert os.listdir(tmp_path / "resumed") == [FILE]


def test_a_run_that_starts_anew_drops_what_was_there(tmp_path):
    write_run(tmp_path, range(1, 4), tensorboard=False)
    write_run(tmp_path, range(1, 3), tensorboard=False)
    assert [row["step"] for row in read_history(tmp_path)] == [1, 2]


def test_damaged_lines_are_left_out(tmp_path):
    assert read_history(tmp_path) == []
    good = '{"step": 3, "loss": 0.5}'
    (tmp_path / FILE).write_bytes(
        b'\x00\xff\n[1]\n{"loss": 1}\n' + good.encode() + b'\n{"step": 4, "loss": 0.'
    )
    assert read_history(tmp_path) == [{"step": 3, "loss": 0.5}]
    with MetricWriter(tmp_path, resume_step=3, tensorboard=False):
        pass
    assert (tmp_path / FILE).read_text() == good + "\n"


def test_a_killed_process_leaves_its_lines(tmp_path):
    code = (
        "import sys; from wsvad_jax.training.metric_log import MetricWriter\n"
        "w = MetricWriter(sys.argv[1], tensorboard=False)\n"
        "for step in range(1, 10**9):\n"
        "    w.write(step, {'loss': 1.0})\n"
        "    if step == 50: print('ready', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    steps = [row["step"] for row in read_history(tmp_path)]
    assert steps[:50] == list(range(1, 51)) and steps == list(range(1, len(steps) + 1))
    write_run(tmp_path, [41], resume_step=40, tensorboard=False)
    assert [row["step"] for row in read_history(tmp_path)] == list(range(1, 42))


def test_inactive_writes_nothing(tmp_path):
    write_run(tmp_path / "run", range(1, 5), active=False)
    assert not (tmp_path / "run").exists()


def read_events(path):
    """(step, name, value) of each scalar in a file of TFRecords."""
    from tensorboardX.proto.event_pb2 import Event

    data, found = path.read_bytes(), []
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + size])
        found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
        data = data[16 + size :]
    return found


def test_events_hold_the_numbers(tmp_path):
    write_run(tmp_path, range(1, 3))
    with MetricWriter(tmp_path, resume_step=2) as writer:
        writer.write(3, {"loss": 0.25, "map": [0.5], "note": None})
    first, second = sorted((tmp_path / EVENTS).iterdir(), key=lambda p: p.suffix)
    assert read_events(first) == [
        (step, name, value)
        for step in (1, 2)
        for name, value in (("loss", 1 / step), ("mil", 0.5))
    ]
    assert read_events(second) == [(3, "loss", 0.25)]


def test_events_load_no_pytorch(tmp_path):
    code = (
        "import sys; from wsvad_jax.training.metric_log import MetricWriter\n"
        "with MetricWriter(sys.argv[1]) as writer:\n"
        "    writer.write(1, {'loss': 1.0})\n"
        "assert 'tensorboardX' in sys.modules and 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True)


def test_writing_after_close_does_nothing(tmp_path):
    writer = MetricWriter(tmp_path, tensorboard=False)
    writer.write(1, {"loss": 1.0})
    writer.close()
    writer.close()
    writer.write(2, {"loss": 1.0})
    assert len(read_history(tmp_path)) == 1


RESULTS = {
    "auc": 0.880199,
    "ano_auc": 0.7023,
    "ap": None,
    "recall@fpr0.01": 0.25,
    "map": [0.5, 0.4, 0.3, 0.2, 0.1],
    "map_avg": 0.3,
    "auc_align": 0.9,
    "ano_auc_align": 1.0,
    "model": "dsanet",
    "dataset": "demo",
    "seed": 0,
    "versions": {"jax": "1"},
}


def test_results_table():
    assert results_table(RESULTS).splitlines() == [
        "model dsanet, dataset demo, seed 0",
        "%                              anomaly   align",
        "-----------------------------  -------  ------",
        "frame AUC                        88.02   90.00",
        "frame AUC, abnormal videos       70.23  100.00",
        "AP (step-wise)                       -",
        "recall at 1 % false positives    25.00",
        "mAP at IoU 0.1                   50.00",
        "mAP at IoU 0.2                   40.00",
        "mAP at IoU 0.3                   30.00",
        "mAP at IoU 0.4                   20.00",
        "mAP at IoU 0.5                   10.00",
        "mAP, mean                        30.00",
    ]


@pytest.mark.parametrize("empty", [None, []])
def test_results_table_without_maps(empty):
    table = results_table({"auc": 0.5, "map": empty, "map_avg": None})
    assert "mAP at IoU 0.5        -" in table


@pytest.mark.parametrize(
    ("labels", "segments", "said"),
    [
        ((True, True), (), True),
        ((True, False), (), True),
        ((False, False), (), False),
        ((True, True), ((16, 32, 1),), False),
        ((True, True), ((0, 64, 1),), True),  # all frames are anomalous
    ],
)
def test_results_without_true_events_say_so(labels, segments, said):
    scores = np.linspace(0.1, 0.6, 4, dtype=np.float32)
    videos = [
        EvalVideo(f"v{i}", scores, None, segments, 64, (int(abnormal),))
        for i, abnormal in enumerate(labels)
    ]
    table = results_table(evaluate(videos, ("Normal", "Fire")))
    assert ("no ground truth" in table) == said
    assert ("all test videos are abnormal" in table) == (said and all(labels))
