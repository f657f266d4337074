"""Work in a process of its own: what it returns, raises, and what its death says."""

import os
import signal
import subprocess
import sys
import time

import pytest

from wsvad_jax.utils import program
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.processes import run_in_pool, run_in_subprocess


def refuse(words):
    raise InputError(words)


def test_results_and_errors_come_back():
    assert run_in_subprocess(os.getppid) == os.getpid()
    with pytest.raises(InputError, match="no such thing"):
        run_in_subprocess(refuse, "no such thing")


def test_a_pool_keeps_the_order_of_its_calls():
    calls = [(base, 2) for base in range(5)]
    assert run_in_pool(pow, calls, "squares", "square") == [0, 1, 4, 9, 16]
    assert run_in_pool(pow, [], "squares", "square") == []
    with pytest.raises(InputError, match="no such thing"):
        run_in_pool(refuse, [("no such thing",)], "refusals", "refusal")


def test_a_killed_process_is_told(capsys):
    """A process that the kernel kills for lack of memory: nobody waits for it."""
    with pytest.raises(SystemExit) as e:
        program.run(lambda: run_in_subprocess(signal.raise_signal, signal.SIGKILL))
    assert e.value.code == program.EXIT_INPUT
    err = capsys.readouterr().err
    assert "was killed, probably out of memory" in err and err.count("\n") == 1


def test_an_interrupt_does_not_wait():
    """The work may be a compiler's, which hears nothing for minutes."""
    code = (
        "import signal, time\n"
        # A shell's background jobs start with interrupts ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from wsvad_jax.utils import program\n"
        "from wsvad_jax.utils.processes import run_in_pool, run_in_subprocess\n"
        "if __name__ == '__main__':\n"
        "    print('started', flush=True)\n"
        "    program.run(lambda: run_in_subprocess(time.sleep, 600))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(2)  # until the other process sleeps
    process.send_signal(signal.SIGINT)  # to this one alone
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == program.EXIT_INTERRUPTED, err
    assert err.endswith("interrupted; the same command resumes from what is saved\n")


def test_workers_end_with_a_parent_that_is_killed():
    work = "import time; print('at work', flush=True); time.sleep(600)"
    code = (
        "from wsvad_jax.utils.processes import run_in_pool\n"
        "if __name__ == '__main__':\n"
        f"    run_in_pool(exec, [({work!r},)], 'work', 'piece')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    process.kill()
    # The pipe ends when no worker holds it any more.
    assert process.communicate(timeout=60)[0] == ""
