"""Files whole or absent, and folders that one process works in."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

HOLD = """
import sys, time
from wsvad_jax.utils.files import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that works in `tmp_path / "run"`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_works_there(tmp_path, holder):
    with (
        pytest.raises(InputError, match=f"process {holder.pid} on .* is working in"),
        files.locked(tmp_path / "run"),
    ):
        pass
    with files.locked(tmp_path / "another"):
        pass


def test_a_lock_dies_with_its_process(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run/.lock").is_file()
    with files.locked(tmp_path / "run"):
        (tmp_path / "run/result").touch()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["result"]


def test_a_folder_that_stays_empty_is_removed(tmp_path):
    with pytest.raises(KeyError), files.locked(tmp_path / "a/b"):
        raise KeyError
    assert not (tmp_path / "a/b").exists()


def test_a_filesystem_without_locks_locks_nothing(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with files.locked(tmp_path), files.locked(tmp_path):
        pass


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, 1)
    with pytest.raises(KeyError), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert files.read_json(path) == 1 and list(tmp_path.iterdir()) == [path]


def test_half_a_surrogate_pair_is_no_text(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": "\\ud83d\\ude00 \\u00e4"}')
    assert files.read_json(path) == {"a": "😀 ä"}
    path.write_text('{"a": ["\\ud800"]}')
    with pytest.raises(InputError, match=r"a\.json: expected a JSON file"):
        files.read_json(path)


def test_names_of_files_that_are_no_unicode_are_kept(tmp_path):
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    files.write_json(tmp_path / "a.json", {"video": name})
    assert files.read_json(tmp_path / "a.json") == {"video": name}
    files.write_text(tmp_path / "a.txt", name)
    assert (tmp_path / "a.txt").read_text() == "caf\\udce9.mp4"


def test_a_key_that_is_there_twice(tmp_path):
    path = tmp_path / "truth.json"
    path.write_text('[{"video": "a", "segments": [[0, 9]], "segments": []}]')
    with pytest.raises(
        InputError, match=r'truth.json: the key "segments" .*\[\[0, 9\]\] and \[\]'
    ):
        files.read_json(path)
    # In two objects it is no second time.
    path.write_text('{"a": {"name": 1}, "b": {"name": 2}}')
    assert files.read_json(path) == {"a": {"name": 1}, "b": {"name": 2}}


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"]
)
def test_byte_order_marks_are_read(tmp_path, encoding):
    text = '{"name": "정문"}\r\n'
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "a.json").write_bytes((mark + text).encode(encoding))
    assert files.read_json(tmp_path / "a.json") == {"name": "정문"}
    assert files.read_text(tmp_path / "a.json") == '{"name": "정문"}\n'
    (tmp_path / "a.json").write_bytes(text.encode("cp949"))
    with pytest.raises(InputError, match=r"a\.json: expected a JSON file"):
        files.read_json(tmp_path / "a.json")


def test_a_temporary_name_is_short_and_keeps_the_suffix(tmp_path):
    longest = "x" * 251 + ".npy"
    for name in ("a.png", longest, "a." + "y" * 200):
        with files.atomic_path(tmp_path / name) as temporary:
            temporary.write_text(name)
            assert len(temporary.name) < 40
            assert name.endswith("y") or temporary.suffix == (tmp_path / name).suffix
        assert (tmp_path / name).read_text() == name
    assert files.temporary_stem("a/b.npy") != files.temporary_stem("a/b.json")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("content", ["text", "array"])
def test_a_full_disk_comes_with_the_file_s_name(tmp_path, content):
    path = tmp_path / "gate.npy"
    with (
        pytest.raises(OSError, match="No space left") as e,
        files.atomic_path(path),
        open("/dev/full", "wb", buffering=0) as f,
    ):
        np.ones(999).tofile(f) if content == "array" else f.write(b"x" * 9999)
    assert (e.value.errno, e.value.filename) == (errno.ENOSPC, str(path))
    assert not any(tmp_path.iterdir())
