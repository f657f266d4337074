"""What is a file's fault and what is the machine's, for everything that is read."""

import errno
import os
import pathlib

import numpy as np
import pytest
from finished import write_small

from wsvad_jax.data import feature_files, memmap_cache
from wsvad_jax.data.dataset import open_dataset
from wsvad_jax.datasets import custom_videos, registry
from wsvad_jax.datasets.demo import dataset as demo
from wsvad_jax.detection import export
from wsvad_jax.results import seeds
from wsvad_jax.utils.errors import (
    InputError,
    UnreadableError,
    machine_error_reason,
    raise_if_unreadable,
)
from wsvad_jax.utils.files import read_json, write_json
from wsvad_jax.weights import torch_files


def below(error: BaseException) -> RuntimeError:
    """An error that a library raises because of another."""
    found = RuntimeError("it failed")
    found.__cause__ = error
    return found


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EIO, "Input/output error", "a"), "a: Input/output error"),
        (PermissionError("no"), "no"),
        (TimeoutError("server"), "server"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (MemoryError("x"), "there is not enough memory: x"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            "not enough memory",
        ),
        (ValueError("UNAVAILABLE: no server"), "UNAVAILABLE: no server"),
        (
            ValueError("X: Failed to open: \"a/b\": Bad [os_error_code='5']"),
            f"a/b: {os.strerror(5)}",
        ),
        (ValueError("I/O error (os error 116)"), os.strerror(116)),
    ],
    ids=lambda e: str(e)[:20],
)
def test_what_the_machine_can_not_do(error, reason):
    assert reason in machine_error_reason(error)
    assert reason in machine_error_reason(below(below(error)))
    assert reason in machine_error_reason(
        ExceptionGroup("several", [KeyError(), error])
    )
    with pytest.raises(UnreadableError, match="b.npy: cannot be read now"):
        raise_if_unreadable("b.npy", error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file", "a"),
        ValueError("truncated"),
        OSError("Failed to interpret file as a pickle"),  # NumPy's, without a number
        ValueError("NOT_FOUND: Failed to open [os_error_code='2']"),
        EOFError(),
    ],
    ids=repr,
)
def test_what_may_be_the_contents_fault(error):
    assert machine_error_reason(error) == ""
    raise_if_unreadable("b.npy", error)


def loop(path: pathlib.Path) -> None:
    """Makes a link in circles of a path, which no user can open."""
    path.unlink(missing_ok=True)
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.json", read_json),
        ("a.npy", feature_files.read_shape),
        ("a.npy", feature_files.read_features),
        ("a.npz", seeds._read_curves),
        ("a.stablehlo", export.load),
        ("a.pth", torch_files._read_torch),
        ("a.safetensors", torch_files._read_safetensors),
    ],
    ids=lambda x: x if isinstance(x, str) else x.__name__,
)
def test_a_file_that_cannot_be_opened_is_not_called_damaged(tmp_path, name, read):
    if name == "a.pth":
        pytest.importorskip("torch")
    folder = tmp_path / name  # where a file is expected: a folder, and a loop
    folder.mkdir()
    path = tmp_path / f"x{name}"
    loop(path)
    for place in (folder, path) if "read_curves" not in read.__name__ else ():
        with pytest.raises(UnreadableError, match="cannot be read now") as e:
            read(place)
        words = str(e.value)
        assert str(place) in words
        assert "damaged" not in words and "again" not in words and "whole" not in words


def test_scores_that_cannot_be_read_now(tmp_path, monkeypatch):
    np.savez(tmp_path / "scores.npz", a=np.ones(3))

    def load(*_, **__):
        raise OSError(errno.EIO, "Input/output error", "scores.npz")

    monkeypatch.setattr(np, "load", load)
    with pytest.raises(UnreadableError, match="Input/output error"):
        seeds._read_curves(tmp_path / "scores.npz")


def test_a_dataset_that_cannot_be_read_now(tmp_path):
    path = write_small(tmp_path)
    kept = (path / "metadata.json").rename(path / "kept")
    loop(path / "metadata.json")
    with pytest.raises(UnreadableError, match="metadata.json: cannot be read now"):
        open_dataset(registry.resolve(str(path)))
    kept.replace(path / "metadata.json")
    dataset = open_dataset(path)
    (shard,) = path.glob("*train.array_record*")
    kept = shard.rename(path / "kept")
    loop(shard)
    with pytest.raises(UnreadableError, match="symbolic") as e:
        dataset.split("train")[0]
    assert "again" not in str(e.value)
    kept.replace(shard)
    assert open_dataset(path).split("train")[0].video == "a0"


def test_a_packed_file_that_cannot_be_read_now_stays(tmp_path):
    dataset = open_dataset(write_small(tmp_path))
    split, shape = dataset.split("train"), (2, 3)

    def chunks():
        yield np.ones(shape, np.float16)

    memmap_cache.open_or_build_memmap(dataset, "some", shape, chunks, split)
    (path,) = (dataset.path / "packed").glob("*/features.npy")
    settings = path.with_name("settings.json")
    text = settings.read_text()
    loop(settings)
    with pytest.raises(OSError, match="symbolic"):
        memmap_cache.open_or_build_memmap(dataset, "some", shape, chunks, split)
    assert settings.is_symlink() and path.is_file()
    settings.unlink()
    settings.write_text(text)


def test_nothing_is_made_again_because_it_cannot_be_read_now(tmp_path, monkeypatch):
    """The demo's dataset, and features of a folder's videos."""
    monkeypatch.setattr(demo, "build_world", lambda *_, **__: False)
    written = tmp_path / "demo/1.0.0"
    written.mkdir(parents=True)
    (tmp_path / "demo/world").mkdir()
    write_json(written / "index.json", {"files": {}, "splits": {}})
    loop(written / "metadata.json")
    with pytest.raises(UnreadableError):
        demo.prepare_demo(tmp_path)

    np.save(tmp_path / "v.npy", np.ones((3, 4), np.float32))
    loop(tmp_path / "v.json")
    plan = custom_videos.FeatureStatus()
    plan.video_paths["v"] = tmp_path / "v.mp4"
    with pytest.raises(UnreadableError):
        custom_videos._add_extracted(plan, "v", [tmp_path / "v.npy"])
    assert plan.changed == []
    (tmp_path / "v.json").unlink()
    (tmp_path / "v.json").write_text("{")
    custom_videos._add_extracted(plan, "v", [tmp_path / "v.npy"])
    assert plan.changed == ["v"]  # its content was read


def test_damage_is_still_said(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00junk")
    with pytest.raises(InputError, match="damaged or not a .npy file"):
        feature_files.read_shape(tmp_path / "a.npy")
