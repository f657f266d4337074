"""Caches large float16 arrays of a split as memory-mapped files.

A file is kept in the folder `packed` of its dataset, or in the cache if the dataset is
read-only. It is built under a temporary name and renamed. On reuse, its settings, its
bytes' hash and the dataset's content are checked; the file is built again if they differ.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterable

import numpy as np

from wsvad_jax.data.dataset import Dataset, Split
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import build_folder
from wsvad_jax.utils.progress import Progress

FORMAT = 2  # version of the files; files of another version are built again
CHUNK = 16 << 20  # bytes that are hashed at a time


def open_or_build_memmap(
    dataset: Dataset,
    name: str,
    shape: tuple[int, ...],
    chunks: Callable[[], Iterable[np.ndarray]],
    records: Split,
) -> np.ndarray:
    """Returns a memory-mapped float16 array; builds its file if there is none.

    Args:
      dataset: prepared dataset.
      name: name of the file, without the dataset's content hash.
      shape: shape of the array.
      chunks: function that yields the array's content in order.
      records: split of the content, for the progress bar.

    Raises:
      InputError: there is no space for the file, in the dataset or in the cache.
    """
    settings = {"format": FORMAT, "content": dataset.content, "shape": list(shape)}
    name = f"{name}-{dataset.content[:16]}"

    # An existing file in either folder is used before one is built.
    folders = [dataset.path / "packed", files.cache_dir() / "packed"]
    for folder in folders:
        # Another user's file may be unreadable; the next folder is the user's own.
        with contextlib.suppress(PermissionError):
            if (features := _open(folder / name, settings, warn=True)) is not None:
                return features

    # The dataset's folder may be read-only or full; the cache is the second choice.
    needed = int(np.prod(shape)) * 2
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(folder).free < needed + (1 << 20):
                continue
            with build_folder(folder) as temporary:
                _write(temporary / name, settings, chunks(), records)
                _replace(temporary / name, folder / name, settings)
        except OSError:
            continue

        features = _open(folder / name, settings)
        assert features is not None
        return features

    raise InputError(
        f"{folders[0]} and {folders[1]}: cannot write {needed / 1e9:.1f} GB in either; "
        "make room, or set WSVAD_JAX_CACHE to a folder that has some"
    )


def _open(
    folder: pathlib.Path, settings: dict, warn: bool = False
) -> np.ndarray | None:
    """Maps a packed file; None if it is absent, damaged or has other settings.

    The whole file is read once, to compare its hash: a changed byte would train another
    model silently.

    Raises:
      OSError: it can't be read now.
    """
    try:
        stored = json.loads((folder / "settings.json").read_text())
        path = folder / "features.npy"
        wanted = {**settings, "bytes": path.stat().st_size}
        digest = stored.pop("digest", "") if isinstance(stored, dict) else ""
        if stored != wanted:
            return None

        if digest != _digest(path):
            if warn:
                print(
                    f"{path}: its content has changed since it was packed; it is built "
                    "again",
                    file=sys.stderr,
                )
            return None

        features = np.load(path, mmap_mode="r")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None

    fits = features.shape == tuple(settings["shape"]) and features.dtype == np.float16
    return features if fits else None


def _write(
    folder: pathlib.Path, settings: dict, chunks: Iterable[np.ndarray], records: Split
) -> None:
    # Streamed behind a header, since the array may exceed the memory.
    folder.mkdir()
    header = {"descr": "<f2", "fortran_order": False, "shape": tuple(settings["shape"])}
    with (
        open(folder / "features.npy", "wb") as f,
        Progress(f"packing {records.name}", len(records), unit="video") as progress,
    ):
        # The hash covers the header too, so it is made in memory first.
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, header)
        f.write(head.getvalue())
        digest = hashlib.blake2b(head.getvalue())

        for chunk in chunks:
            array = np.ascontiguousarray(chunk, "<f2")
            f.write(array.data)
            digest.update(array.data)
            progress.update()

        # On disk before the settings: they vouch for the file.
        f.flush()
        os.fsync(f.fileno())
        size = f.tell()

    identity = {"bytes": size, "digest": digest.hexdigest()}
    files.write_json(folder / "settings.json", {**settings, **identity})


def _digest(path: pathlib.Path) -> str:
    digest = hashlib.blake2b()
    with open(path, "rb") as f:
        while chunk := f.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _replace(new: pathlib.Path, final: pathlib.Path, settings: dict) -> None:
    # Another process may have built the same file meanwhile.
    if final.exists():
        if _open(final, settings) is not None:
            return  # another process was faster
        os.rename(final, new.with_name("damaged"))
    os.rename(new, final)
