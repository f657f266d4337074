"""Feature files: what they may hold, and what is said of anything else."""

import gzip
import pickle
import warnings

import numpy as np
import pytest

from wsvad_jax import prepare
from wsvad_jax.data import feature_files
from wsvad_jax.datasets.prepare import REPORT
from wsvad_jax.utils.errors import InputError

ROWS = np.random.RandomState(3).standard_normal((40, 8)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "gate.npy"


@pytest.mark.parametrize(
    "reader", [feature_files.read_shape, feature_files.read_features]
)
def test_a_second_array_in_one_file(path, reader):
    with open(path, "wb") as f:
        np.save(f, ROWS)
        np.save(f, ROWS)
    with pytest.raises(
        InputError, match=r"1408 bytes follow the array .*several arrays"
    ):
        reader(path)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\nsize 9\n",
            "Git LFS.*git lfs pull",
        ),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"MATLAB 5.0 MAT-file, written by hand", "a MATLAB file"),
        (gzip.compress(b"x" * 99, mtime=0), "packed with gzip"),
        (pickle.dumps({"rgb": 1}), "a Python pickle"),
        (b"<!DOCTYPE html>", "a web page"),
    ],
)
def test_another_format_is_called_by_its_name(path, content, wanted):
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"gate.npy: expected a .npy file.*{wanted}"):
        feature_files.read_features(path)


def test_an_archive_of_arrays_is_called_by_its_name(path):
    with open(path, "wb") as f:
        np.savez(f, rgb=ROWS)
    with pytest.raises(InputError, match="a zip archive"):
        feature_files.read_features(path)


@pytest.mark.parametrize("scale", [1e-12, 1e-8, 1e-6])
def test_values_too_small_for_half_precision(path, scale):
    np.save(path, ROWS.astype(np.float64) * scale)
    with pytest.raises(InputError, match="too small for float16"):
        feature_files.read_features(path)


@pytest.mark.parametrize("scale", [0, 1e-4, 1, 1e3])
def test_values_that_half_precision_keeps(path, scale):
    np.save(path, ROWS * np.float32(scale))
    remarks: list[str] = []
    read = feature_files.read_features(path, remarks)
    assert not remarks
    np.testing.assert_allclose(read, ROWS * scale, rtol=1e-2, atol=1e-2 * scale)


def test_most_values_vanish_beside_large_ones(own):
    few = np.full((4, 6), 1e-10, np.float32)
    few[:, 0] = 1
    own.write_features("n0", few)
    path = prepare.prepare(str(own.path), data_dir=str(own.path.parent / "data"))
    said = (path / REPORT).read_text()
    assert "n0.npy: 20 of 24 values become 0 in float16" in said


def test_headers_of_python_2_are_read_in_silence(path):
    head = (
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': (40L, 8L), }}{' ' * 40}\n"
    )
    size = len(head).to_bytes(2, "little")
    path.write_bytes(b"\x93NUMPY\x01\x00" + size + head.encode() + ROWS.tobytes())
    with warnings.catch_warnings(action="error"):
        read = feature_files.read_features(path)
    assert (read == ROWS.astype(np.float16)).all()
