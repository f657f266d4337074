"""Times what happens before a program works: its flags, its imports, its first video."""

import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from wsvad_jax.clip.packaged import PACKAGED
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import aligned

# Packages that programs import where they use them.
PACKAGES = (
    *("numpy", "jax", "flax", "optax", "orbax.checkpoint", "matplotlib.figure", "av"),
    *("scipy.stats", "sklearn.metrics", "transformers.models.clip", "pydantic"),
    *("tensorflow_datasets", "tensorboardX"),
)
FRAMES = 256  # of the video of `detect`
IMPORT = re.compile(r"import time: +(\d+) \|")  # microseconds of a module alone


def programs() -> list[str]:
    """Returns the names of the package's programs."""
    folder = pathlib.Path(__file__).parents[1]
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


def measure_start_up(repeats: int) -> dict[str, Any]:
    """Times the start of every program, in processes of their own.

    Args:
      repeats: number of timed runs of each command, after one that fills the caches.

    Returns:
      {'help': {program: times}, 'detect': times, 'packages': {package: times}}. Times
      are medians in seconds: `wall_s`, `cpu_s` of user and system, and, of programs,
      `import_s` and the number of `modules`. `detect` scores a short video, zero-shot.

    Raises:
      InputError: a command fails.
    """
    found: dict[str, Any] = {"help": {}, "packages": {}}
    for name in programs():
        command = ["-m", f"wsvad_jax.{name}", "--help"]
        found["help"][name] = _times(command, repeats) | _imports(command)

    with tempfile.TemporaryDirectory() as folder:
        command = _detect_command(pathlib.Path(folder))
        found["detect"] = _times(command, repeats) | _imports(command)

    # Each in a fresh process: what several packages import counts in each of them.
    for name in PACKAGES:
        found["packages"][name] = _times(["-c", f"import {name}"], repeats)
    return found


def _detect_command(folder: pathlib.Path) -> list[str]:
    """Writes a short video; returns the command that scores it by words."""
    from wsvad_jax.benchmarks.input_pipeline import write_synthetic_video

    video = folder / "video.mp4"
    write_synthetic_video(video, FRAMES)
    words = ["--classes", "a fire", "--normal", "an ordinary street"]
    command = ["-m", "wsvad_jax.detect", str(video), "--clip", PACKAGED, *words]
    return [*command, "--output", str(folder / "found")]


def _times(command: Sequence[str], repeats: int) -> dict[str, float]:
    """Returns the medians of a command's wall and CPU time."""
    _run(command)
    wall, cpu = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), _cpu_seconds()
        _run(command)
        wall.append(time.perf_counter() - start)
        cpu.append(_cpu_seconds() - used)
    return {"wall_s": statistics.median(wall), "cpu_s": statistics.median(cpu)}


def _imports(command: Sequence[str]) -> dict[str, float]:
    """Returns how many modules a command imports, and the seconds that this takes."""
    said = _run(["-X", "importtime", *command])
    own = [int(t) for t in IMPORT.findall(said)]
    return {"import_s": sum(own) / 1e6, "modules": len(own)}


def _run(command: Sequence[str]) -> str:
    """Runs Python with a command; returns what it wrote to standard error."""
    done = subprocess.run(
        [sys.executable, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        *_, line = done.stderr.strip().splitlines() or ["no message"]
        raise InputError(f"python {' '.join(command)}: {line}")
    return done.stderr


def _cpu_seconds() -> float:
    """Returns the user and system time of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def start_up_tables(found: dict[str, Any]) -> list[str]:
    """Formats the measurements as lines of two tables.

    Args:
      found: result of `measure_start_up`.
    """
    rows = [["program", "s", "CPU s", "imports s", "modules"]]
    commands = {f"{name} --help": m for name, m in found["help"].items()}
    for name, m in (*commands.items(), ("detect, a video", found["detect"])):
        imports = [f"{m['import_s']:.2f}", f"{m['modules']}"]
        rows.append([name, f"{m['wall_s']:.2f}", f"{m['cpu_s']:.2f}", *imports])

    packages = [["package", "s", "CPU s"]]
    for name, m in found["packages"].items():
        packages.append([name, f"{m['wall_s']:.2f}", f"{m['cpu_s']:.2f}"])
    return [*aligned(rows), *aligned(packages)]
