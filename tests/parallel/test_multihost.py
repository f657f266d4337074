"""Two processes that compute together, and runs that a notice or a death ends."""

import contextlib
import shutil
import signal
import socket
import time

import pytest
from finished import saved_steps
from flax.traverse_util import flatten_dict
from numpy.testing import assert_allclose as close

from wsvad_jax import train
from wsvad_jax.results.history import read_history
from wsvad_jax.utils import program
from wsvad_jax.utils.files import read_json
from wsvad_jax.weights.model_folder import load_params

pytestmark = pytest.mark.slow
NEVER = 100_000
# CLIP-TSA's bias before a batch normalisation, which takes it back: its gradient is
# rounding, of which Adam makes whole steps, and the running mean follows.
SHIFTED = {"Aggregate_non_local_W_0/bias", "Aggregate_non_local_W_1/mean"}
LONG = {
    "clean__steps": 9999,
    "checkpoint_every_steps": 20,
    "clean__eval_every_steps": NEVER,
}


def pair(tiny, *arguments):
    """Starts two processes of one training."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    return [
        tiny.start(*arguments, "--multihost", JAX_PROCESS_ID=str(i), **common)
        for i in range(2)
    ]


def ended(processes, seconds=400):
    """Waits for processes; returns (code, output, errors) of each."""
    found = []
    with contextlib.ExitStack() as stack:
        for process in processes:
            stack.callback(process.kill)
        for process in processes:
            out, errors = process.communicate(timeout=seconds)
            found.append((process.returncode, out, errors))
    return found


def until(condition, process):
    end = time.monotonic() + 300
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise AssertionError(process.communicate())
        time.sleep(0.05)


def assert_close(found, wanted, tolerance=1e-5):
    """Losses, weights and metrics of two runs."""
    rows = [read_history(workdir) for workdir in (found, wanted)]
    assert [r["step"] for r in rows[0]] == [r["step"] for r in rows[1]]
    for a, b in zip(*rows, strict=True):
        if "loss" in a:
            assert a["loss"] == pytest.approx(b["loss"], abs=tolerance), a["step"]
    loaded = (load_params(workdir / "model") for workdir in (found, wanted))
    a, b = ([flatten_dict(tree, sep="/") for tree in model[:2]] for model in loaded)
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys()
        for name in x.keys() - SHIFTED:
            # Sums in another order: single weights move by a little more than losses.
            close(x[name], y[name], rtol=0, atol=5 * tolerance, err_msg=name)
    a, b = (read_json(workdir / "results.json") for workdir in (found, wanted))
    for name, value in a.items():
        if isinstance(value, float):
            assert value == pytest.approx(b[name], abs=1e-9), name


@pytest.mark.parametrize("model", ["mil_ranking", "clip_tsa", "dsanet"])
def test_two_processes_are_as_one(tiny, tmp_path, model):
    flags = tiny.flags(model)
    one, two = tmp_path / "one", tmp_path / "two"
    train.main([*flags, "--workdir", str(one)])
    keep = "--keep_checkpoints"
    for code, _, errors in ended(pair(tiny, *flags, keep, "--workdir", two)):
        assert code == 0, errors
    assert_close(two, one)
    # One process resumes what two began.
    resumed = tmp_path / "resumed"
    shutil.copytree(two, resumed)
    for name in ("results.json", "model"):
        path = resumed / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(resumed / "checkpoints" / str(saved_steps(resumed)[-1]))
    assert saved_steps(resumed)
    train.main([*flags, "--workdir", str(resumed)])
    assert_close(resumed, one)


@pytest.mark.parametrize("killed", [0, 1])
def test_one_of_two_is_killed(tiny, tmp_path, killed):
    """The other ends within a minute and says why; started again, they go on."""
    command = *tiny.flags("mil_ranking", **LONG), "--workdir", tmp_path
    processes = pair(tiny, *command)
    until(lambda: saved_steps(tmp_path), processes[0])
    processes[killed].kill()
    start = time.monotonic()
    (other,) = ended([processes[1 - killed]], 60)
    assert time.monotonic() - start < 60
    assert other[0] in (program.EXIT_AGAIN, -signal.SIGABRT), other
    # Whichever of JAX's threads, or the program itself, sees it first.
    words = "another process", "heartbeat", "coordination service"
    assert any(w in other[2] for w in words), other[2]
    processes[killed].communicate()
    again = pair(tiny, *command)
    until(lambda: saved_steps(tmp_path)[-1] > 40, again[0])
    for process in again:
        process.send_signal(signal.SIGTERM)
    for i, (code, out, errors) in enumerate(ended(again)):
        assert code == program.EXIT_AGAIN, errors
        assert ("resuming" in out) == (i == 0)


def test_a_notice_saves_and_any_number_of_devices_goes_on(tiny, tmp_path):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    once = {"checkpoint_every_steps": NEVER, "clean__eval_every_steps": NEVER}
    flags = tiny.flags("clip_tsa", clean__steps=60, **once)
    process = tiny.start(*flags, "--workdir", stopped)
    until(lambda: len(read_history(stopped)) > 5, process)
    process.send_signal(signal.SIGTERM)
    ((code, _, errors),) = ended([process])
    assert code == program.EXIT_AGAIN
    (step,) = saved_steps(stopped)
    assert f"stopped: step {step} of 60 is saved; the same command resumes" in errors
    assert not (stopped / "results.json").exists()
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    again = tiny.start(*flags, "--workdir", stopped, **environment)
    ((code, out, errors),) = ended([again])
    assert code == 0, errors
    assert f"at step {step} of 60" in out
    train.main([*flags, "--workdir", str(straight)])
    assert_close(stopped, straight)
