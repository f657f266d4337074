"""The packed split, windows, order and batches against plain loops."""

import json
import os
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsvad_jax.data import batching, packing
from wsvad_jax.utils import prefetch
from wsvad_jax.utils.errors import InputError


def resample_loop(features, T):
    """The rule of the released code, row by row."""
    N, n, D = features.shape
    out = np.zeros((N, T, D), np.float32)
    if n <= T:
        out[:, :n] = features
        return out
    edges = [int(e) for e in np.linspace(0, n, T + 1)]
    for i in range(T):
        low, high = edges[i], edges[i + 1]
        rows = features[:, low:high] if high > low else features[:, low : low + 1]
        out[:, i] = rows.astype(np.float32).mean(1)
    return out


@given(
    st.integers(1, 3), st.integers(1, 300), st.integers(1, 60), st.integers(0, 2**31)
)
@settings(max_examples=60, deadline=None)
def test_resample_equals_the_loop(N, n, T, seed):
    x = np.random.RandomState(seed).standard_normal((N, n, 3)).astype(np.float32)
    np.testing.assert_allclose(
        packing.resample(x, T), resample_loop(x, T), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("n", [1, 255, 256, 257, 511, 512, 6750])
def test_resample_of_half_precision_is_rounded_once(n):
    x = np.random.RandomState(n).standard_normal((2, n, 4)).astype(np.float16)
    out = packing.resample(x, 256)
    assert out.dtype == np.float16
    exact = resample_loop(x.astype(np.float64), 256)
    np.testing.assert_allclose(out, exact, rtol=2**-10, atol=1e-6)


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_windows_concatenate_back(n, T, N):
    x = np.random.RandomState(n).standard_normal((N, n, 2)).astype(np.float16)
    w = packing.split_windows(x, T)
    assert w.shape == (-(-n // T), N, T, 2)
    joined = np.concatenate(list(w), 1)
    np.testing.assert_array_equal(joined[:, :n], x)
    assert not joined[:, n:].any()


@pytest.mark.parametrize("samples", ["crops", "videos"])
def test_pack_equals_the_records(dataset, samples):
    T = 8
    packed = packing.pack_split(dataset, "train", T, samples=samples)
    assert (
        isinstance(packed.features, np.memmap) and packed.features.dtype == np.float16
    )
    records = list(dataset.split("train"))
    assert packed.video == [r.video for r in records]
    rows = [(v, c) for v in range(23) for c in range(2)]
    if samples == "videos":
        rows = [(v, slice(None)) for v in range(23)]
    assert packed.features.shape == (len(rows), 1 if samples == "crops" else 2, T, 6)
    for s, (v, c) in enumerate(rows):
        whole = packing.resample(records[v].features, T)
        expected = whole[[c]] if samples == "crops" else whole
        np.testing.assert_array_equal(packed.features[s], expected)
        assert packed.index[s] == v
        assert packed.length[s] == min(T, records[v].num_snippets)
        assert tuple(np.flatnonzero(packed.label[s])) == records[v].label
    with pytest.raises(InputError, match="expected 'crops' or 'videos'"):
        packing.pack_split(dataset, "train", T, samples="frames")


@pytest.mark.parametrize("crop", [0, 1, None])
def test_windows_equal_the_records(dataset, crop):
    T = 5
    windows = packing.pack_windows(dataset, "test", T, crop)
    records = list(dataset.split("test"))
    assert windows.videos == [r.video for r in records]
    assert windows.num_snippets.tolist() == [r.num_snippets for r in records]
    for v, record in enumerate(records):
        mine = windows.video == v
        wanted = record.features if crop is None else record.features[[crop]]
        joined = np.concatenate(list(windows.features[mine]), 1)
        np.testing.assert_array_equal(joined[:, : record.num_snippets], wanted)
        assert windows.length[mine].sum() == record.num_snippets
        assert (windows.length[mine][:-1] == T).all()
    with pytest.raises(InputError, match="no crop 2, the test features have 2"):
        packing.pack_windows(dataset, "test", T, 2)


def file_of(dataset):
    (folder,) = (dataset.path / "packed").iterdir()
    return folder / "features.npy"


def test_packed_file_is_used_again(dataset):
    packing.pack_split(dataset, "train", 8)
    file = file_of(dataset)
    before = file.stat().st_mtime_ns
    packing.pack_split(dataset, "train", 8)
    assert file.stat().st_mtime_ns == before
    packing.pack_split(dataset, "train", 9)
    assert len(list((dataset.path / "packed").iterdir())) == 2


def truncate(file):
    file.write_bytes(file.read_bytes()[:-1])


def empty(file):
    file.write_bytes(b"")


def lose_settings(file):
    (file.parent / "settings.json").unlink()


def spoil_settings(file):
    (file.parent / "settings.json").write_text("{")


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[-40] ^= 0x55
    file.write_bytes(content)


def of_an_older_version(file):
    # It had no hash, so that nothing vouches for the content.
    path = file.parent / "settings.json"
    noted = json.loads(path.read_text())
    del noted["digest"]
    path.write_text(json.dumps(noted | {"format": 1}))
    flip_a_byte(file)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        empty,
        lose_settings,
        spoil_settings,
        flip_a_byte,
        of_an_older_version,
    ],
)
def test_damaged_packed_file_is_built_again(dataset, damage):
    expected = np.array(packing.pack_split(dataset, "train", 8).features)
    damage(file_of(dataset))
    np.testing.assert_array_equal(
        packing.pack_split(dataset, "train", 8).features, expected
    )
    assert os.listdir(dataset.path / "packed") == [file_of(dataset).parent.name]


def test_a_packed_file_that_changed_is_named(dataset, capsys):
    packing.pack_split(dataset, "train", 8)
    flip_a_byte(file_of(dataset))
    packing.pack_split(dataset, "train", 8)
    err = capsys.readouterr().err
    said = f"{file_of(dataset)}: its content has changed since it was packed"
    assert err.count(said) == 1
    packing.pack_split(dataset, "train", 8)
    assert "changed" not in capsys.readouterr().err


def test_read_only_dataset_packs_into_the_cache(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("WSVAD_JAX_CACHE", str(tmp_path / "cache"))
    (dataset.path / "packed").write_text("a file where the folder should be")
    for _ in range(2):
        packed = packing.pack_split(dataset, "train", 8)
    assert packed.features.shape == (46, 1, 8, 6)
    assert len(list((tmp_path / "cache" / "packed").iterdir())) == 1
    monkeypatch.setenv("WSVAD_JAX_CACHE", str(dataset.path / "packed"))
    with pytest.raises(InputError, match="cannot write .* GB in either"):
        packing.pack_split(dataset, "train", 9)


@given(
    normal=st.integers(2, 60),
    abnormal=st.integers(2, 60),
    batch=st.integers(1, 12).map(lambda b: 2 * b),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 10**6),
)
@settings(max_examples=80, deadline=None)
def test_balanced_batches_pair_normal_with_abnormal(
    normal, abnormal, batch, seed, epoch
):
    is_normal = np.random.RandomState(normal).permutation(
        np.arange(normal + abnormal) < normal
    )
    arguments = (is_normal, batch, "balanced", seed, epoch)
    if min(normal, abnormal) < batch // 2:
        with pytest.raises(InputError, match="choose a smaller batch_size"):
            batching.epoch_order(*arguments)
        return
    order = batching.epoch_order(*arguments)
    assert order.dtype == np.int32
    assert order.shape == (min(normal, abnormal) // (batch // 2), batch)
    assert is_normal[order[:, : batch // 2]].all()
    assert not is_normal[order[:, batch // 2 :]].any()
    assert len(np.unique(order)) == order.size  # without replacement
    np.testing.assert_array_equal(order, batching.epoch_order(*arguments))


@given(st.integers(1, 80), st.integers(1, 20), st.integers(0, 99), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_uniform_order_is_a_permutation(count, batch, seed, epoch):
    is_normal = np.arange(count) % 3 == 0
    if count < batch:
        with pytest.raises(
            InputError, match="training samples per step, but there are"
        ):
            batching.epoch_order(is_normal, batch, "uniform", seed, epoch)
        return
    order = batching.epoch_order(is_normal, batch, "uniform", seed, epoch)
    assert order.shape == (count // batch, batch)
    assert len(np.unique(order)) == order.size and order.max() < count


def test_epochs_and_seeds_differ():
    is_normal = np.arange(40) < 20
    orders = {
        batching.epoch_order(is_normal, 8, "balanced", seed, epoch).tobytes()
        for seed in (0, 1, 2)
        for epoch in range(5)
    }
    assert len(orders) == 15


def test_order_of_bad_settings():
    is_normal = np.arange(40) < 20
    with pytest.raises(InputError, match="even number"):
        batching.epoch_order(is_normal, 7, "balanced", 0, 0)
    with pytest.raises(InputError, match="expected 'balanced' or 'uniform'"):
        batching.epoch_order(is_normal, 8, "thirds", 0, 0)


@given(
    counts=st.lists(st.integers(0, 60), min_size=2, max_size=5),
    fraction=st.floats(0.05, 0.5),
    seed=st.integers(0, 2**33),
)
@settings(max_examples=80, deadline=None)
def test_holdout_is_stratified(counts, fraction, seed):
    classes = np.repeat(np.arange(len(counts)), counts)
    label = np.eye(len(counts), dtype=np.float32)[classes]
    normal, abnormal = counts[0], sum(counts[1:])
    if min(normal, abnormal) < 2:
        with pytest.raises(InputError, match="too few to hold one out"):
            batching.held_out_mask(label, fraction, seed)
        return
    out = batching.held_out_mask(label, fraction, seed)
    np.testing.assert_array_equal(out, batching.held_out_mask(label, fraction, seed))
    for side in (classes == 0, classes > 0):
        total = side.sum()
        assert 0 < out[side].sum() < total
        assert abs(out[side].sum() - fraction * total) <= 1
    if min(fraction * normal, fraction * abnormal) >= 1:
        for c, count in enumerate(counts):
            assert abs(out[classes == c].sum() - fraction * count) <= 1.01


def test_holdout_takes_a_video_s_first_abnormal_class():
    label = np.zeros((60, 3), np.float32)
    label[:20, 0] = 1
    label[20:40, 1] = 1
    label[40:, 2] = 1
    label[20:25, 2] = 1  # several labels: the first decides
    out = batching.held_out_mask(label, 0.1, 3)
    assert [out[:20].sum(), out[20:40].sum(), out[40:].sum()] == [2, 2, 2]
    assert len({batching.held_out_mask(label, 0.1, s).tobytes() for s in range(9)}) > 5
    with pytest.raises(InputError, match="expected between 0 and 1"):
        batching.held_out_mask(label, 1.0, 0)


def test_batches_follow_the_order_and_resume(dataset):
    packed = packing.pack_split(dataset, "train", 8)
    order = batching.epoch_order(packed.label[:, 0] > 0, 4, "balanced", 0, 0)
    got = list(batching.batches(packed, order))
    assert len(got) == len(order)
    for batch, rows in zip(got, order, strict=True):
        np.testing.assert_array_equal(batch.features, packed.features[rows])
        np.testing.assert_array_equal(batch.label, packed.label[rows])
        np.testing.assert_array_equal(batch.length, packed.length[rows])
        assert batch.mask.all() and not isinstance(batch.features, np.memmap)
    rest = list(batching.batches(packed, order, 3))
    assert len(rest) == len(order) - 3
    np.testing.assert_array_equal(rest[0].features, got[3].features)


def prefetching() -> int:
    return sum(t.name == "prefetch" for t in threading.enumerate())


def test_prefetch_stays_ahead_and_stops():
    taken, others = [], prefetching()  # those of other tests
    stream = prefetch.prefetch((taken.append(i) or i for i in range(100)), ahead=3)
    assert not taken  # nothing starts before it is asked for
    assert next(stream) == 0
    time.sleep(0.2)
    assert 3 <= len(taken) <= 5
    stream.close()
    deadline = time.monotonic() + 5
    while prefetching() > others and time.monotonic() < deadline:
        time.sleep(0.01)
    assert prefetching() <= others and len(taken) <= 5


def test_prefetch_raises_what_its_items_raise():
    def items():
        yield 1
        raise InputError("a bad file")

    stream = prefetch.prefetch(items())
    assert next(stream) == 1
    with pytest.raises(InputError, match="a bad file"):
        next(stream)
