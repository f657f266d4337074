"""Ctrl-C in a training: the first one saves, the second one stops at once."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from finished import saved_steps

from wsvad_jax.parallel.multihost import PreemptionSignal
from wsvad_jax.results.history import read_history
from wsvad_jax.training import sampler
from wsvad_jax.training.run import train_and_evaluate
from wsvad_jax.utils import program
from wsvad_jax.utils.errors import Interrupted, Preempted

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
NEVER = {"checkpoint_every_steps": 100_000, "clean__eval_every_steps": 100_000}
# The train program, also where the parent ignores Ctrl-C.
START = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("wsvad_jax.train", run_name="__main__")
"""


@pytest.fixture
def interruptible():
    """Python's own handler of Ctrl-C, which some test runners replace."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def signalled(monkeypatch):
    """`signalled(step, number, times)`: signals as the batch of `step` is asked for."""
    inputs = sampler.BatchSampler.inputs

    def at(step, number=signal.SIGINT, times=1):
        def send(self, first, n=1):
            if first <= step < first + n:
                for _ in range(times):
                    os.kill(os.getpid(), number)
            return inputs(self, first, n)

        monkeypatch.setattr(sampler.BatchSampler, "inputs", send)

    return at


def test_the_first_saves_and_the_same_command_resumes(
    tiny, tmp_path, interruptible, signalled, monkeypatch, capfd
):
    config = tiny.config("mil_ranking", **NEVER)
    signalled(2)
    with pytest.raises(KeyboardInterrupt, match="^step 3 of 6 is saved$"):
        train_and_evaluate(config, tmp_path)
    assert saved_steps(tmp_path) == [3]
    assert "Ctrl-C again stops at once" in capfd.readouterr().err

    monkeypatch.undo()
    results = train_and_evaluate(config, tmp_path)
    assert results["step"] == 6
    assert "at step 3 of 6" in capfd.readouterr().out


def test_the_second_stops_at_once(tiny, tmp_path, interruptible, signalled):
    signalled(2, times=2)
    with pytest.raises(KeyboardInterrupt) as e:
        train_and_evaluate(tiny.config("mil_ranking", **NEVER), tmp_path)
    assert not isinstance(e.value, Interrupted) and not saved_steps(tmp_path)


@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, Interrupted), (signal.SIGTERM, Preempted)],
)
def test_a_signal_in_the_last_step_is_not_lost(
    tiny, tmp_path, interruptible, signalled, number, raised
):
    signalled(5, number)
    with pytest.raises(raised, match="^step 6 of 6 is saved$"):
        train_and_evaluate(tiny.config("mil_ranking", **NEVER), tmp_path)
    assert saved_steps(tmp_path) == [6] and not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_a_program_with_a_handler_of_its_own_keeps_it(interruptible, handler):
    before = signal.signal(signal.SIGINT, handler)
    with PreemptionSignal():
        assert signal.getsignal(signal.SIGINT) is handler
    signal.signal(signal.SIGINT, before)


def test_other_threads_change_no_handler(interruptible):
    handlers = []

    def work():
        with PreemptionSignal():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


def test_the_program_says_where_it_resumes(capsys):
    def main():
        raise Interrupted("step 12 of 60 is saved")

    with pytest.raises(SystemExit) as e:
        program.run(main)
    assert e.value.code == program.EXIT_INTERRUPTED
    said = "interrupted: step 12 of 60 is saved; the same command resumes from there\n"
    assert capsys.readouterr().err == said


def test_ctrl_c_in_a_real_process(tiny, tmp_path):
    flags = tiny.flags("mil_ranking", clean__steps=99_999, **NEVER)
    process = subprocess.Popen(
        [sys.executable, "-c", START, *flags, "--workdir", str(tmp_path / "run")],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 300
    while len(read_history(tmp_path / "run")) < 5 and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.05)

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == program.EXIT_INTERRUPTED, errors
    (step,) = saved_steps(tmp_path / "run")
    end = rf"interrupted: step {step} of 99999 is saved; the same command resumes .*\n$"
    assert re.search(end, errors) and "Traceback" not in errors
