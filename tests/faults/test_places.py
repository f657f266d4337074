"""Disks that are full, folders that are shut, files that vanish, clocks that jump."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import sample_videos
from finished import recipe, write_run

from wsvad_jax.clip.snapshot import load_snapshot
from wsvad_jax.data import feature_files
from wsvad_jax.extraction import extract_files
from wsvad_jax.extraction.extractor import Extractor
from wsvad_jax.training import run as train_run
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

REPOSITORY = pathlib.Path(__file__).parent.parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


@pytest.fixture
def small_disk(tmp_path):
    """A filesystem of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid():
        pytest.skip("only root can mount a small filesystem")
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no filesystem can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_and_keeps_what_was_there(small_disk):
    path = small_disk / "a.json"
    files.write_json(path, "old")
    with pytest.raises(OSError, match="No space left"):
        files.write_json(path, "x" * 1_000_000)
    assert files.read_json(path) == "old"
    assert [p.name for p in small_disk.iterdir()] == ["a.json"]


@pytest.mark.slow
def test_a_program_on_a_full_disk(small_disk, tmp_path):
    write_run(tmp_path / "run", recipe("dsanet", "ucf"))
    (small_disk / "full").write_bytes(bytes(256 << 10))
    page = small_disk / "page.html"
    found = run("wsvad_jax.report", tmp_path / "run", "--html", page)
    assert found.returncode == 2 and "No space left on device" in found.stderr
    assert found.stderr.count("\n") == 1 and not page.exists()
    (small_disk / "full").unlink()
    assert run("wsvad_jax.report", tmp_path / "run", "--html", page).returncode == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_shut(tmp_path):
    shut = tmp_path / "shut"
    shut.mkdir(0o555)
    write_run(tmp_path / "run", recipe("dsanet", "ucf"))
    found = run("wsvad_jax.report", tmp_path / "run", "--output", shut / "out")
    assert found.returncode == 2 and "Permission denied" in found.stderr
    assert found.stderr.count("\n") == 1


def test_a_video_that_vanishes_is_named_and_the_rest_is_made(tmp_path):
    for name in "abc":
        sample_videos.write_video(tmp_path / f"{name}.mp4", 20)
    videos = extract_files.find_videos([tmp_path])
    (tmp_path / "b.mp4").unlink()
    extractor = Extractor(load_snapshot(sample_videos.write_clip(tmp_path / "clip")))
    summary = extract_files.extract_files(videos, tmp_path / "out", extractor)
    assert summary.done == ["a", "c"]
    (error,) = summary.failed
    assert "b.mp4" in str(error)


def test_features_that_vanish_after_the_check(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 4), np.float32))
    video = feature_files.FeatureFiles(
        "a", (0,), (tmp_path / "a.npy",), feature_files.UNKNOWN_LAYOUT
    )
    (sized,) = feature_files.check_headers([video], feature_files.ErrorCollector())
    (tmp_path / "a.npy").unlink()
    with pytest.raises(InputError, match=r"a\.npy: the feature file is missing"):
        list(feature_files.Records([sized], 16, feature_files.ErrorCollector()))


@pytest.mark.parametrize("date", [0, 4_102_444_800])  # 1970, 2100
def test_a_clock_that_jumps_makes_nothing_anew(date, tmp_path):
    sample_videos.write_video(tmp_path / "a.mp4", 20)
    extractor = Extractor(load_snapshot(sample_videos.write_clip(tmp_path / "clip")))
    videos, out = [tmp_path / "a.mp4"], tmp_path / "out"
    extract_files.extract_files(videos, out, extractor)
    for path in (tmp_path / "a.mp4", *out.iterdir()):
        os.utime(path, (date, date))
    summary = extract_files.extract_files(videos, out, extractor)
    assert (summary.skipped, summary.done) == (["a"], [])


@pytest.mark.slow
def test_two_trainings_of_one_workdir(tiny, tmp_path):
    workdir = tmp_path / "run"
    first = tiny.start(*tiny.flags(), "--workdir", workdir)
    try:
        # The lock names its holder a moment after it exists.
        while first.poll() is None and not lock_text(workdir):
            time.sleep(0.01)
        assert first.poll() is None
        first.send_signal(signal.SIGSTOP)  # so that it doesn't finish first
        with pytest.raises(InputError, match=f"process {first.pid} .*is working in"):
            train_run.train_and_evaluate(tiny.config(), workdir)
        first.send_signal(signal.SIGCONT)
        _, err = first.communicate()
    finally:
        first.kill()
    assert first.returncode == 0, err
    assert (workdir / "results.json").is_file() and not (workdir / ".lock").exists()


def lock_text(workdir):
    lock = workdir / ".lock"
    return lock.exists() and lock.read_text()
