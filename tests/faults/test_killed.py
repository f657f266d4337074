"""Programs killed at random moments: the same command again ends with the same files.

WSVAD_JAX_FAULT_ROUNDS (2) is the number of kills of each program, and half of those of a
training; WSVAD_JAX_FAULT_SEED draws the moments, and is printed where a test fails.
"""

import dataclasses
import hashlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import sample_videos
from finished import recipe, write_run
from tiny import Tiny, write_folder

ROUNDS = int(os.environ.get("WSVAD_JAX_FAULT_ROUNDS", "2"))
SEED = int(os.environ.get("WSVAD_JAX_FAULT_SEED", random.randrange(10**6)))
REPOSITORY = pathlib.Path(__file__).parent.parent.parent
DEMO = (
    "import pathlib, sys; from wsvad_jax.datasets.demo import dataset; "
    "dataset.prepare_demo(pathlib.Path(sys.argv[1]), (3, 3))"
)
# What holds a date, or how far a run came: equal in what it means, not in its bytes.
VARYING = ("tensorboard", "checkpoints", "model", "report.png", "packed", "run.json")
pytestmark = pytest.mark.slow


@dataclasses.dataclass
class Program:
    """A command that writes into the folder that is its last argument."""

    command: list[str]
    whole: Callable[[pathlib.Path], bool] = lambda path: True  # final once it is there

    def start(self, folder: pathlib.Path) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, *self.command, str(folder)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """What the programs are given."""
    root = tmp_path_factory.mktemp("inputs")
    (root / "videos").mkdir()
    for i in range(6):
        sample_videos.write_video(root / f"videos/v{i}.mp4", 64 + 16 * i)
    sample_videos.write_clip(root / "clip")
    write_folder(root / "own")
    for seed in range(6):
        write_run(root / f"runs/{seed}", recipe("dsanet", "ucf", seed))
    return root


def programs(root: pathlib.Path) -> dict[str, Program]:
    module = ["-m"]
    return {
        "demo": Program(["-c", DEMO], lambda p: p.suffix in (".mp4", ".npy")),
        "prepare": Program(
            [*module, "wsvad_jax.prepare", str(root / "own"), "--data_dir"],
            lambda p: p.suffix == ".json",
        ),
        "extract": Program(
            [
                *module,
                *("wsvad_jax.extract", str(root / "videos")),
                *("--clip", str(root / "clip"), "--output"),
            ]
        ),
        "report": Program(
            [*module, "wsvad_jax.report", str(root / "runs"), "--collect"]
        ),
    }


def read(path: pathlib.Path) -> bytes:
    """A file's bytes; of array_record, whose bytes vary, what its records hold."""
    if ".array_record" not in path.name:
        return path.read_bytes()
    from wsvad_jax.data.dataset import open_dataset

    split = open_dataset(path.parent).split(
        "test" if "-test." in path.name else "train"
    )
    return b"".join(r.video.encode() + r.features.tobytes() for r in split)


def content(folder: pathlib.Path) -> dict[str, str]:
    """A hash of every file that is the same in each run."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(read(p)).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
        and not any(part[0] == "." for part in p.relative_to(folder).parts)
        and not set(p.relative_to(folder).parts) & set(VARYING)
    }


def kill(program: Program, folder: pathlib.Path, seconds: float) -> bool:
    """Kills the program `seconds` after it first wrote; whether it was still there."""
    process = program.start(folder)
    while process.poll() is None and not (folder.exists() and any(folder.iterdir())):
        time.sleep(0.01)
    time.sleep(seconds)
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return alive


@pytest.mark.parametrize("name", ["demo", "prepare", "extract", "report"])
def test_a_killed_program_goes_on(name, inputs, tmp_path):
    program, draws = programs(inputs)[name], random.Random(f"{SEED} {name}")
    start = time.monotonic()
    process = program.start(tmp_path / "wanted")
    out, _ = process.communicate()
    assert process.returncode == 0, out
    length = time.monotonic() - start
    wanted = content(tmp_path / "wanted")
    killed = 0
    for i in range(ROUNDS):
        folder = tmp_path / f"killed{i // 5}"  # five kills of one run, then another
        killed += kill(program, folder, draws.uniform(0, length / 2))
        for path, digest in content(folder).items():
            if program.whole(pathlib.Path(path)):
                assert wanted[path] == digest, (SEED, i, path)
    for folder in tmp_path.glob("killed*"):
        process = program.start(folder)
        out, _ = process.communicate()
        assert process.returncode == 0, (SEED, out)
        assert content(folder) == wanted, SEED
        left = [p for p in folder.rglob("*") if p.name.startswith(".building")]
        assert not left, (SEED, left)
    print(f"{name}: killed {killed} of {ROUNDS}")


def test_a_killed_training_goes_on(tmp_path_factory, tmp_path):
    import jax
    import numpy as np

    from wsvad_jax.weights.model_folder import load_params

    tiny, draws = Tiny(tmp_path_factory.mktemp("tiny")), random.Random(f"{SEED} train")
    # MIL ranking starts in half the time; test_train.py kills DSANet.
    changes = {"checkpoint_every_steps": 1, "clean__eval_every_steps": 1}
    flags = tiny.flags("mil_ranking", clean__steps=20, **changes)
    program = Program(["-m", "wsvad_jax.train", *flags, "--workdir"])
    start = time.monotonic()
    out, _ = program.start(tmp_path / "wanted").communicate()
    length = time.monotonic() - start
    killed, rounds = 0, 2 * ROUNDS  # few moments are in its steps
    for i in range(rounds):
        folder = tmp_path / f"killed{i // 5}"
        # From the first file on: in a step, a save, an evaluation, the last files.
        killed += kill(program, folder, draws.uniform(0, length / 2))
    for folder in tmp_path.glob("killed*"):
        process = program.start(folder)
        out, _ = process.communicate()
        assert process.returncode == 0, (SEED, out)
        assert content(folder) == content(tmp_path / "wanted"), SEED
        a, b = (load_params(f / "model") for f in (folder, tmp_path / "wanted"))
        jax.tree.map(np.testing.assert_array_equal, a[:2], b[:2])
    print(f"train: killed {killed} of {rounds}")
