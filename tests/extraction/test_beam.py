"""An archive through Beam's local runner: the same files, each made once."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from sample_videos import write_video

from wsvad_jax import extract
from wsvad_jax.extraction.extract_files import PROTOCOL

pytest.importorskip("apache_beam", reason="Apache Beam is not installed (extra beam)")

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
GOOD, BAD = 60, 5
WORKERS = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Many videos in two folders, a few of them damaged; tests only read it."""
    path = tmp_path_factory.mktemp("videos")
    (path / "b").mkdir()
    for i in range(GOOD):
        write_video((path / "b" if i % 2 else path) / f"{i}.mp4", 40)
    for i in range(BAD):
        (path / f"bad{i}.mp4").write_bytes(b"no video" * (i + 1))
    return path


def arguments(videos, clip, output):
    return [str(videos), "--clip", str(clip), "--output", str(output)]


def beam(videos, clip, output, *more):
    return [*arguments(videos, clip, output), "--runner=DirectRunner", *more]


def start(*flags):
    """The program in a process, and a process group, of its own."""
    command = [sys.executable, "-m", "wsvad_jax.extract", *flags]
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def made(folder):
    """Contents of the features and what is noted beside them."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("[!.]*")
        if p.suffix in (".npy", ".json")
    }


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_in_this_process(tmp_path, clip, capsys):
    videos, plain, out = (tmp_path / n for n in ("videos", "plain", "out"))
    videos.mkdir()
    for i in range(3):
        write_video(videos / f"{i}.mp4", 20)
    (videos / "bad.mp4").touch()
    shape = ("--crops", "5", "--layout", "crops")
    assert extract.main([*arguments(videos, clip, plain), *shape]) == 3
    assert extract.main(beam(videos, clip, out, *shape)) == 3
    assert made(out) == made(plain)
    said = capsys.readouterr()
    assert "3 extracted, 0 already there, 1 unreadable; 60 frames" in said.out
    assert said.err.count(f"left out: {videos / 'bad.mp4'}: ") == 2
    assert [r["name"] for r in lines(out / "manifest.jsonl") if r["made"]] == list(
        "012"
    )
    assert extract.main(beam(videos, clip, out, *shape)) == 3
    assert "0 extracted, 3 already there, 1 unreadable" in capsys.readouterr().out
    assert not [r for r in lines(out / "manifest.jsonl") if r["made"]]


@pytest.mark.slow
def test_workers_make_what_one_process_makes(tmp_path, videos, clip):
    plain, out = tmp_path / "plain", tmp_path / "out"
    assert extract.main(arguments(videos, clip, plain)) == 3
    run = start(*beam(videos, clip, out, *WORKERS))
    said, errors = run.communicate(timeout=170)
    assert run.returncode == 3, errors
    assert f"{GOOD} extracted, 0 already there, {BAD} unreadable" in said
    assert made(out) == made(plain)
    manifest = lines(out / "manifest.jsonl")
    names = [r["name"] for r in manifest]
    assert len(names) == len(set(names)) == GOOD
    assert all(r["frames"] == 40 and r["snippets"] == 3 for r in manifest)
    dead = {pathlib.Path(r["video"]).name for r in lines(out / "failed.jsonl")}
    assert dead == {f"bad{i}.mp4" for i in range(BAD)}


@pytest.mark.slow
def test_killed_and_started_again(tmp_path, videos, clip):
    out = tmp_path / "out"
    killed = start(*beam(videos, clip, out, *WORKERS))
    # Sidecars are written last; that of the folder is there before any video's.
    while len([*out.rglob("[!.]*.json")]) < 5:
        assert killed.poll() is None
        time.sleep(0.002)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    whole = {
        p.with_suffix(""): p for p in out.rglob("[!.]*.json") if p.name != PROTOCOL
    }
    before = {p: p.with_suffix(".npy").stat().st_mtime_ns for p in whole}
    assert 0 < len(before) < GOOD
    again = start(*beam(videos, clip, out, *WORKERS))
    said, errors = again.communicate(timeout=170)
    assert again.returncode == 3, errors
    left = GOOD - len(before)
    assert f"{left} extracted, {len(before)} already there, {BAD} unreadable" in said
    assert {p: p.with_suffix(".npy").stat().st_mtime_ns for p in whole} == before
    assert len(lines(out / "manifest.jsonl")) == len([*out.rglob("[!.]*.npy")]) == GOOD
    assert not [*out.rglob(".*.npy"), *out.rglob(".*.json")]
