"""What every program shares: errors in one sentence, exit codes, the `--config` flag."""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import os
import pathlib
import platform
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from typing import Any

from wsvad_jax.utils import flags, progress
from wsvad_jax.utils.errors import (
    InputError,
    Interrupted,
    Preempted,
    is_missing_device,
    one_line,
)
from wsvad_jax.utils.files import cache_dir
from wsvad_jax.utils.machine_errors import (
    OUT_OF_MEMORY,
    escape_unprintable_output,
    full_disk_message,
    is_out_of_memory,
    is_peer_failure,
    machine_error_message,
    resume_command,
    silence_full_disk_in_threads,
)

__all__ = [
    "OUT_OF_MEMORY",
    "is_out_of_memory",
    "is_peer_failure",
    "machine_error_message",
    "resume_command",
]

EXIT_INPUT, EXIT_SKIPPED, EXIT_INTERRUPTED = 2, 3, 130
EXIT_AGAIN = 75  # "try again" of sysexits.h: launch/ starts the same command again
MULTIHOST = "WSVAD_JAX_MULTIHOST"
COMPILE_CACHE = "WSVAD_JAX_COMPILE_CACHE"
HEARTBEAT = 30  # seconds without a sign of life after which a process is given up
RUNNER_HELP = "runner of Apache Beam: DirectRunner, FlinkRunner …; other flags go to it"
MULTIHOST_HELP = f"one of several processes that compute together (or {MULTIHOST}=1)"


def run(main: Callable[[], int], *, resumes: bool = True) -> None:
    """Runs a program's `main` and ends the process with its exit code.

    What a user can cause (bad input, a full disk, Ctrl-C) is one line on standard
    error and a non-zero code; a traceback is a bug.

    Args:
      main: work of the program; returns its exit code.
      resumes: whether the same command, after Ctrl-C, continues from what is saved.
    """
    escape_unprintable_output()
    silence_full_disk_in_threads()
    keep_compiled()

    try:
        code = main()
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        code = EXIT_INPUT
    except OSError as e:
        # The system gives a reason; without one, it is a bug of ours.
        if e.strerror is None:
            raise
        text = full_disk_message(e) or f"{e.filename or 'a file'}: {e.strerror}"
        print(f"error: {text}", file=sys.stderr)
        code = EXIT_INPUT
    except Preempted as e:
        print(f"stopped: {e}; {resume_command()} resumes from there", file=sys.stderr)
        code = EXIT_AGAIN
    except KeyboardInterrupt as e:
        print(f"interrupted{_what_is_kept(e, resumes)}", file=sys.stderr)
        code = EXIT_INTERRUPTED
    except BrokenExecutor:
        print(
            "error: a worker process was killed, probably out of memory; reduce "
            "batch_size",
            file=sys.stderr,
        )
        code = EXIT_INPUT
    except Exception as e:
        sentence = machine_error_message(e)
        # Asking how many processes there are needs a device.
        if not is_missing_device(e) and is_peer_failure(e):
            print(
                f"error: another process of this run is gone ({one_line(e)}); start all "
                "of them again, and they resume from the last checkpoint",
                file=sys.stderr,
                flush=True,
            )
            # Not sys.exit: JAX would wait for that process and then abort this one.
            os._exit(EXIT_AGAIN)
        if not sentence:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        code = EXIT_INPUT
    sys.exit(code)


def _what_is_kept(error: KeyboardInterrupt, resumes: bool) -> str:
    """Returns what follows "interrupted": what the same command does next."""
    if isinstance(error, Interrupted):
        return f": {error}; {resume_command()} resumes from there"
    if resumes:
        return f"; {resume_command()} resumes from what is saved"
    return "; no results are written, and the same command begins from the start"


@dataclasses.dataclass
class Output:
    """The result of a program, for --json."""

    value: Any = None


@contextlib.contextmanager
def output(*, quiet: bool = False, json_only: bool = False) -> Iterator[Output]:
    """Runs a program's work as --quiet and --json ask for.

    With --json, what the work prints goes to standard error, and the value that it
    leaves in the `Output` is printed as one JSON object.
    """
    result = Output()
    progress.set_quiet(quiet)
    try:
        with contextlib.ExitStack() as stack:
            if json_only:
                stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            yield result
    finally:
        progress.set_quiet(False)
    if json_only:
        print(json.dumps(result.value, ensure_ascii=False, default=str), flush=True)


def keep_compiled() -> None:
    """Has JAX keep compiled programs for later runs, in the user's cache folder.

    JAX's own variables come first, `WSVAD_JAX_COMPILE_CACHE=0` switches it off, and a
    folder that can't be written is left alone. By environment variables, since JAX is
    not imported yet, and because processes that are started here inherit them.
    """
    variable = "JAX_COMPILATION_CACHE_DIR"
    if os.environ.get(COMPILE_CACHE) == "0" or variable in os.environ:
        return
    # Homes are shared by machines: a program for one CPU may not run on another.
    directory = cache_dir() / "compiled" / cpu_kind()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(directory, os.W_OK):
        os.environ[variable] = str(directory)
        # Together, the programs that compile quickly cost as much as a slow one.
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def cpu_kind() -> str:
    """Returns a name for CPUs that run each other's programs."""
    try:
        about = pathlib.Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        lines = [x for x in about.splitlines() if x.startswith(("flags", "Features"))]
    except OSError:  # not Linux
        lines = [platform.processor()]
    mark = hashlib.blake2b("".join(lines).encode(), digest_size=4).hexdigest()
    return f"{platform.machine()}-{mark}"


def start_hosts(asked: bool) -> None:
    """Joins the other processes of a run, where `--multihost` or the variable asks.

    JAX takes addresses and ranks from Cloud TPU, GKE, Slurm or Open MPI; elsewhere they
    are in JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID. It must be the first thing that is done with JAX.

    Raises:
      InputError: nothing says which processes belong together.
    """
    value = os.environ.get(MULTIHOST, "")
    if value not in ("", "0", "1"):
        raise InputError(f"{MULTIHOST}={value}: expected 1 or 0")
    if not asked and value != "1":
        return
    import jax

    try:
        count, rank = (
            int(number) if (number := os.environ.get(name)) else None
            for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
        )
        # A process that is killed is to be missed within a minute.
        jax.distributed.initialize(
            num_processes=count, process_id=rank, heartbeat_timeout_seconds=HEARTBEAT
        )
    except ValueError as e:
        raise InputError(
            f"--multihost: no other hosts are known ({e}); start the program on all of "
            f"them by launch/, or leave the flag and {MULTIHOST} out on one machine"
        ) from None


def check_runner(runner: str | None) -> None:
    """Raises InputError where a runner is asked for and Apache Beam is missing."""
    if runner and importlib.util.find_spec("apache_beam") is None:
        raise InputError(
            f"--runner {runner}: Apache Beam is not installed; {flags.install('beam')} "
            "(the extra beam)"
        )
