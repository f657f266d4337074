"""What every program shares: exit codes, one sentence, recipes from the command line."""

import errno
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from wsvad_jax.experiment.config import load_config
from wsvad_jax.utils import program as cli
from wsvad_jax.utils.errors import InputError

REPOSITORY = pathlib.Path(__file__).parent.parent
RECIPE = f"--config={REPOSITORY}/configs/dsanet.py"


def ended(main) -> int:
    with pytest.raises(SystemExit) as e:
        cli.run(main)
    assert isinstance(e.value.code, int)
    return e.value.code


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("a.npy: empty"), 2, "error: a.npy: empty\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a"),
            2,
            (
                "error: runs/a: No space left on device: the disk or your quota is full; "
                "free some space, and the same command resumes from the files that are "
                "complete\n"
            ),
        ),
        (
            KeyboardInterrupt(),
            130,
            "interrupted; the same command resumes from what is saved\n",
        ),
    ],
)
def test_what_a_user_can_cause_is_one_line(capsys, error, code, line):
    assert ended(raising(error)) == code
    assert capsys.readouterr().err == line


def test_a_program_that_keeps_nothing_does_not_promise_to_resume(capsys):
    with pytest.raises(SystemExit) as e:
        cli.run(raising(KeyboardInterrupt()), resumes=False)
    assert e.value.code == 130
    line = capsys.readouterr().err
    assert "no results are written" in line and "resumes" not in line


def test_a_full_disk_of_a_library_names_the_file(capsys):
    error = RuntimeError(
        "write() failed: No space left on device; writing /d/a.rec; at 9"
    )
    assert ended(raising(error)) == 2
    assert capsys.readouterr().err.startswith(
        "error: /d/a.rec: No space left on device"
    )


def test_a_full_disk_is_said_once():
    code = """
import atexit
from wsvad_jax.utils import program
def full():
    raise OSError(28, "No space left on device", "runs/a")
atexit.register(full)
program.run(full)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == done.stderr.count("runs/a: No space left") == 1


def test_a_full_device_is_one_line(capsys):
    """What XLA itself raises for an array larger than the address space."""
    jax = pytest.importorskip("jax")

    def main():
        jax.jit(lambda: jax.numpy.zeros((2**25, 2**25)))()
        return 0

    assert ended(main) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: there is not enough memory; use more config.")
    assert "Out of memory" in line and line.count("\n") == 1
    assert ended(raising(MemoryError())) == 2


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(raising(ZeroDivisionError()))
    with pytest.raises(OSError, match="orbax"):  # of a library, not the system's
        cli.run(raising(OSError("orbax")))


def test_the_exit_code_of_main():
    assert ended(lambda: 0) == 0


def test_recipes_and_changes():
    config = load_config(
        [
            f"{RECIPE}:xd",
            "--config.seed=3",
            "--config.clean.optim.default.lr=1",
            "--config.model.adapter=False",
        ]
    )
    assert config.data.name == "xd" and config.model.attn_window == 64
    assert config.seed == 3 and config.model.adapter is False
    assert config.clean.optim.default.lr == 1.0
    assert config.paper.optim.default.lr == 1e-5
    assert load_config([RECIPE]).data.name == "demo"


def test_a_dataset_may_have_a_colon_in_its_path():
    assert load_config([f"{RECIPE}:/data/a:b"]).data.name == "/data/a:b"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], "--config is missing"),
        (["--config=none.py:ucf", "--config.seed=1"], "--config none.py: no such file"),
        ([RECIPE, "--config.sed=1"], "--config.sed: the recipe has no such key"),
        ([RECIPE, "--config.model.window=8"], "config.model has adapter, attn_window"),
        ([RECIPE, "--config.seed.x=8"], "config.seed has none"),
        ([RECIPE, "--config.seed=one"], "seed"),
        ([RECIPE, "--confg.seed=1"], "confg"),
        ([RECIPE, "seed=1"], "unexpected argument 'seed=1'"),
    ],
)
def test_bad_arguments(arguments, wanted):
    with pytest.raises(InputError) as e:
        load_config(arguments)
    assert wanted in str(e.value) and "\n" not in str(e.value)


def test_a_program_ends_with_one_sentence():
    command = [sys.executable, "-m", "wsvad_jax.train", "--config=none.py"]
    run = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr == (
        "error: --config none.py: no such file; pass a recipe's path or one of the "
        "names clip_tsa, dsanet, mil_ranking, vadclip, zero_shot\n"
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_of_another_encoding_gets_escapes(encoding):
    code = """
from wsvad_jax.utils import program
def main():
    print("caf\\xe9 \\uc2f8\\uc6c0")
    return 0
program.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cafe = b"caf\xe9" if encoding == "latin-1" else rb"caf\xe9"
    assert done.stdout.strip() == cafe + rb" \uc2f8\uc6c0"


def test_names_of_files_in_another_encoding_are_remarked():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from wsvad_jax.utils import program; program.run(lambda: 0)",
        ],
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "file names as ascii" in done.stderr and "PYTHONUTF8=1" in done.stderr


def test_a_recipe_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(["--config=dsanet:ucf", "--config.seed=3"])
    assert (config.model_name, config.data.name, config.seed) == ("dsanet", "ucf", 3)
    with pytest.raises(InputError, match="--config nothing: no such file; .*vadclip"):
        load_config(["--config=nothing:ucf"])


def kept(monkeypatch, cache, **environment) -> str | None:
    for name in ("JAX_COMPILATION_CACHE_DIR", cli.COMPILE_CACHE):
        monkeypatch.setenv(name, "")  # so that it is put back in the end
        monkeypatch.delenv(name)
    monkeypatch.setenv("WSVAD_JAX_CACHE", str(cache))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ended(lambda: 0)
    return os.environ.get("JAX_COMPILATION_CACHE_DIR")


def test_compiled_programs_are_kept(tmp_path, monkeypatch):
    kind = cli.cpu_kind()
    assert kept(monkeypatch, tmp_path) == f"{tmp_path}/compiled/{kind}"
    elsewhere = {"JAX_COMPILATION_CACHE_DIR": "/elsewhere"}
    assert kept(monkeypatch, tmp_path, **elsewhere) == "/elsewhere"
    assert kept(monkeypatch, tmp_path, **{cli.COMPILE_CACHE: "0"}) is None
    (tmp_path / "file").write_text("")
    assert kept(monkeypatch, tmp_path / "file") is None


def test_a_second_process_compiles_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("WSVAD_JAX_CACHE", str(tmp_path))
    work = """
from wsvad_jax.utils import program
def main():
    import jax
    hits = []
    jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
    jax.jit(lambda x: x @ x)(jax.numpy.ones((8, 8))).block_until_ready()
    print(hits.count("/jax/compilation_cache/cache_hits"))
    return 0
program.run(main)
"""
    command = [sys.executable, "-c", work]
    first, second = (
        subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    )
    assert int(second.stdout) > int(first.stdout)
    assert second.stderr == ""


def test_the_command_that_resumes_a_restart(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", "--restart"])
    assert ended(raising(KeyboardInterrupt())) == 130
    line = capsys.readouterr().err
    said = "the same command without --restart resumes from what is saved"
    assert line == f"interrupted; {said}\n"


def test_a_full_disk_is_not_called_memory(capsys):
    """TensorStore has one name for both, and the system's number for a disk."""
    full = ValueError(
        'RESOURCE_EXHAUSTED: Error writing: "runs/a/0": No space left on device '
        "[os_error_code='28']"
    )
    wrapped = RuntimeError("Encountered error while writing")
    wrapped.__cause__ = full
    for error in (full, wrapped):
        assert ended(raising(error)) == 2
        line = capsys.readouterr().err
        assert line.startswith("error: runs/a/0: No space left on device: the disk or")
        assert "memory" not in line and line.count("\n") == 1


def without_device(platform: str, *arguments: object, cwd: pathlib.Path):
    """Runs a program where JAX is asked for a device that isn't there."""
    command = [sys.executable, "-m", *map(str, arguments)]
    place = {"JAX_PLATFORMS": platform, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    *_, line = done.stderr.splitlines()
    start = f"error: JAX_PLATFORMS={platform} asks for a device that JAX doesn't find"
    assert line.startswith(start) and "Traceback" not in done.stderr
    assert "damaged" not in done.stderr and not list(cwd.iterdir())


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_no_device_is_one_sentence(tmp_path, platform):
    program = ["wsvad_jax.train", "--config", "mil_ranking", "--workdir", "run"]
    without_device(platform, *program, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("platform", "half"), [("tpu", 0), ("cuda", 1), ("rocm", 1), ("cpuu", 0)]
)
def test_no_device_in_any_program(finished, clip, tmp_path, platform, half):
    """Each program with two of the platforms."""
    import sample_videos

    (tmp_path / "in/videos").mkdir(parents=True)
    sample_videos.write_video(tmp_path / "in/v.mp4", 40)
    for split in ("train", "test"):
        rows = [f"{split}_{label},{label}" for label in ("Normal", "Fire")]
        (tmp_path / f"in/{split}.csv").write_text("\n".join(["video,label", *rows]))
        for row in rows:
            name = row.partition(",")[0]
            shutil.copy(tmp_path / "in/v.mp4", tmp_path / f"in/videos/{name}.mp4")
    (tmp_path / "empty").mkdir()
    video, model = tmp_path / "in/v.mp4", finished / "model"
    programs = {
        "evaluate": ("--workdir", finished),
        "extract": (video, "--clip", clip, "--output", "x"),
        "detect": (video, "--checkpoint", finished, "--clip", clip, "--output", "x"),
        "detect --live": ("--live", video, "--checkpoint", finished, "--clip", clip),
        "prepare": (tmp_path / "in", "--clip", clip, "--data_dir", "x"),
        "export": ("--checkpoint", finished, "--output", "x.stablehlo"),
        "convert": (
            *("--config", "dsanet", "--checkpoint", model, "--clip", clip),
            *("--to_torch", "x.pth"),
        ),
        "benchmark": ("speed", "--models", "mil_ranking", "--steps", 1),
    }
    for name, arguments in list(programs.items())[half::2]:
        program = f"wsvad_jax.{name.split()[0]}"
        without_device(platform, program, *arguments, cwd=tmp_path / "empty")
