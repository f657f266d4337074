"""The scan of features: exact cosines, whatever the files' dtype, order and number."""

import numpy as np
import pytest

from wsvad_jax.detection import inputs
from wsvad_jax.retrieval import index, library
from wsvad_jax.retrieval.index import SnippetIndex, SnippetRows, widen
from wsvad_jax.utils.errors import InputError

D = 12


def rows_of(array, name="a"):
    return SnippetRows(name, *array.shape, lambda: array, lambda: None)


def cosines(arrays, query):
    x = np.concatenate(arrays).astype(np.float64)
    norms = np.linalg.norm(x, axis=1)
    products = x @ query / np.linalg.norm(query)
    return np.where(norms > 0, products / np.where(norms > 0, norms, 1), 0)


def test_every_float16_is_widened_exactly():
    bits = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = bits[np.isfinite(bits)][:, None]
    wide = widen(finite, np.empty(finite.shape, np.int32))
    np.testing.assert_array_equal(wide, finite.astype(np.float32))
    # What is not finite is large: the scan looks at such blocks again.
    other = bits[~np.isfinite(bits)][:, None]
    assert (np.abs(widen(other, np.empty(other.shape, np.int32))) >= 2**16).all()


def test_cosines_are_those_of_all_dtypes_and_lengths(monkeypatch):
    monkeypatch.setattr(index, "TASK", 7)
    monkeypatch.setattr(index, "BLOCK", 3 * D)
    monkeypatch.setattr(index, "MAX_MAPPED", 2)
    r = np.random.RandomState(0)
    arrays = [
        r.standard_normal((T, D)).astype(kind)
        for T, kind in ((1, "f2"), (40, "f4"), (8, "f8"), (25, "f2"), (3, ">f2"))
    ]
    arrays[3][4] = 0
    arrays.append(np.asfortranarray(r.standard_normal((9, D)).astype(np.float16)))
    made = SnippetIndex([rows_of(a) for a in arrays], threads=2)
    assert len(made) == 86 and made.offsets.tolist() == [0, 1, 41, 49, 74, 77, 86]
    for _ in range(2):  # the second scan has the norms of the first
        query = r.standard_normal(D)
        found = made.cosines(query)
        np.testing.assert_allclose(found, cosines(arrays, query), atol=1e-6)
    assert found[41 + 8 + 4] == 0


def test_first_crops_of_files_are_searched(tmp_path):
    r = np.random.RandomState(0)
    x = r.standard_normal((5, 9, D)).astype(np.float16)
    np.save(tmp_path / "whole.npy", x)
    for n in range(5):
        np.save(tmp_path / f"split__{n}.npy", x[n].astype(np.float32))
    found = library.open_features(inputs.find_inputs([tmp_path]))
    assert [v.num_crops for v in found.videos] == [5, 5]
    made = SnippetIndex([v.rows for v in found.videos])
    query = r.standard_normal(D)
    wanted = cosines([x[0], x[0]], query)
    np.testing.assert_allclose(made.cosines(query), wanted, atol=1e-6)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_named(tmp_path, kind, value):
    x = np.ones((50, D))
    x[7, 3] = value
    with np.errstate(over="ignore"):
        np.save(tmp_path / "bad.npy", x.astype(kind))
    np.save(tmp_path / "good.npy", np.ones((5, D), np.float16))
    found = library.open_features(inputs.find_inputs([tmp_path]))
    made = SnippetIndex([v.rows for v in found.videos])
    with pytest.raises(
        InputError, match=r"bad.npy: 1 values cannot be used, the first"
    ):
        made.cosines(np.ones(D))


def test_queries_and_features_that_do_not_fit():
    one, other = np.ones((3, D), np.float32), np.ones((3, D + 1), np.float32)
    with pytest.raises(InputError, match="b has features 13 wide, but a has 12"):
        SnippetIndex([rows_of(one), rows_of(other, "b")])
    with pytest.raises(InputError, match="no features to search"):
        SnippetIndex([])
    for query in (np.ones(D + 1), np.zeros(D), np.full(D, np.nan)):
        with pytest.raises(InputError, match="expected a finite one of that width"):
            SnippetIndex([rows_of(one)]).cosines(query)
