"""Walks through folders: what is found, once, and what is said of the rest."""

import os
import socket

import pytest

from wsvad_jax.data.feature_files import find_npy_files
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.file_search import SkippedFiles, find_files


def make(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def walk(root, **options):
    passed = SkippedFiles()
    found = find_files(root, (".mp4",), passed, **options)
    return [p.relative_to(root).as_posix() for p in found], passed


def test_what_is_not_read_is_counted_by_its_ending(tmp_path):
    make(
        tmp_path, "b.MP4", "day/a.mp4", "day/c.dat", "d.rar", "e.rar", "f.mp4.part", "g"
    )
    make(tmp_path, ".h.mp4", "._b.mp4", ".git/i.mp4", "Thumbs.db", "desktop.ini")
    make(tmp_path, "__MACOSX/j.mp4", "@eaDir/k.mp4", "a.json")
    found, passed = walk(tmp_path, companions=(".json",))
    assert found == ["b.MP4", "day/a.mp4"] and not passed.errors
    said = str(passed)
    assert said.startswith("5 files not read: .rar (2), ")
    assert {".part (1)", ".dat (1)", "no ending (1)"} <= set(said[18:].split(", "))
    assert str(SkippedFiles()) == ""
    assert walk(tmp_path / "none") == ([], SkippedFiles())


def test_hidden_features_are_passed_over(tmp_path):
    make(tmp_path, "a.npy", "._a.npy", "a.json", ".tmp/b.npy")
    assert find_npy_files(tmp_path) == [tmp_path / "a.npy"]


def test_links_in_circles_end(tmp_path):
    make(tmp_path, *(f"v/{i}/a{i}.mp4" for i in range(8)))
    for i in range(8):
        for j in range(8):
            os.symlink(f"../{j}", tmp_path / f"v/{i}/to{j}")
    os.symlink("..", tmp_path / "v" / "up")
    os.symlink("..", tmp_path / "v" / "again")
    found, passed = walk(tmp_path / "v")
    assert found == [f"{i}/a{i}.mp4" for i in range(8)] and not passed.errors


def test_a_folder_keeps_its_own_name_and_may_have_others(tmp_path):
    make(tmp_path, "v/real/a.mp4", "disk/b.mp4")
    os.symlink("real", tmp_path / "v" / "alias")
    os.symlink("../disk", tmp_path / "v" / "train")
    os.symlink("../disk", tmp_path / "v" / "test")
    found, _ = walk(tmp_path / "v")
    assert found == ["real/a.mp4", "test/b.mp4"]
    found, _ = walk(tmp_path / "v", every_name=True)
    assert found == ["alias/a.mp4", "real/a.mp4", "test/b.mp4", "train/b.mp4"]


def test_what_cannot_be_read_is_named_and_the_rest_found(tmp_path, monkeypatch):
    make(tmp_path, "a.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    os.mkfifo(tmp_path / "pipe.txt")
    os.symlink("nowhere.mp4", tmp_path / "broken.mp4")
    os.symlink("nowhere", tmp_path / "folder")
    os.symlink("nowhere.txt", tmp_path / "broken.txt")
    os.symlink("circle", tmp_path / "circle")
    with socket.socket(socket.AF_UNIX) as plug:
        monkeypatch.chdir(tmp_path)  # paths of sockets are short
        plug.bind("plug.mp4")
    found, passed = walk(tmp_path)
    assert found == ["a.mp4"]
    said = "\n".join(map(str, passed.errors))
    for name, why in (
        ("pipe.mp4", "expected a file, but it is a pipe"),
        ("plug.mp4", "expected a file, but it is a pipe, a socket"),
        ("broken.mp4", "links to nowhere.mp4, which is not there"),
        ("folder", "links to nowhere, which is not there"),
        ("circle", "can't be read (Too many levels of symbolic links)"),
    ):
        assert f"{tmp_path}/{name}: {why}" in said
    assert len(passed.errors) == 5
    assert str(passed) == "2 files not read: .txt (2)"
    with pytest.raises(InputError, match="broken.mp4: links to nowhere"):
        find_files(tmp_path, (".mp4",))


def test_a_folder_that_is_shut_is_named(tmp_path, monkeypatch):
    make(tmp_path, "a.mp4", "shut/b.mp4")
    if os.geteuid():
        (tmp_path / "shut").chmod(0)
    else:  # who may read everything
        scandir = os.scandir

        def shut(path):
            if os.path.basename(path) == "shut":
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", shut)
    found, passed = walk(tmp_path)
    if os.geteuid():
        (tmp_path / "shut").chmod(0o755)
    assert found == ["a.mp4"]
    (error,) = passed.errors
    assert str(error).startswith(f"{tmp_path}/shut: can't be read (Permission denied)")
