"""Digest of a tree of arrays, computed shard by shard.

Every element is mixed with its position in the whole array, and the mixed words are
summed modulo 2^64. A sum has no order: the digest is the same for any number of devices
and processes. No array is gathered; processes exchange one number per split array.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from wsvad_jax.parallel import multihost

CHANGED = "its arrays differ from those that were saved"
PREFIX = "elements:"  # older digests, a hash of the whole arrays' bytes, have none
BLOCK = 2**14  # elements mixed at once, which fit a processor's cache
# Constants of SplitMix64 (Steele et al., OOPSLA 2014).
GOLDEN, MIX_1, MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def tree_digest(tree: Any) -> str:
    """Returns the digest of dtype, shape and elements of a tree's arrays, in order.

    All processes must call it if an array is split among them.
    """
    leaves = jax.tree.leaves(tree)
    sums = [_local_sum(leaf) for leaf in leaves]

    # Only arrays that no process holds whole need the other processes' sums.
    split = [i for i, leaf in enumerate(leaves) if not _is_local(leaf)]
    if split:
        # 32-bit halves, since JAX would truncate 64-bit numbers.
        local = np.array([sums[i] for i in split], np.uint64).view(np.uint32)
        everywhere = np.asarray(multihost_utils.process_allgather(local))
        total = everywhere.view(np.uint64).sum(axis=0, dtype=np.uint64)
        for i, value in zip(split, total, strict=True):
            sums[i] = int(value)

    lines = (
        f"{np.dtype(leaf.dtype).name} {list(leaf.shape)} {total:016x}\n"
        for leaf, total in zip(leaves, sums, strict=True)
    )
    text = "".join(lines).encode()
    return PREFIX + hashlib.blake2b(text, digest_size=16).hexdigest()


def has_digest(tree: Any, digest: str) -> bool:
    """Whether a tree has the digest that was stored with it, of any version."""
    if digest.startswith(PREFIX):
        return tree_digest(tree) == digest
    return _whole_arrays_digest(tree) == digest


def _whole_arrays_digest(tree: Any) -> str:
    """Returns the hash of every array's bytes, as older versions stored it."""
    h = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(tree):
        whole = multihost.gather_to_host(leaf)
        h.update(np.ascontiguousarray(whole).view(np.uint8).data)
    return h.hexdigest()


def _is_local(leaf: Any) -> bool:
    """Whether this process holds every element."""
    if not isinstance(leaf, jax.Array):
        return True
    return leaf.is_fully_addressable or leaf.is_fully_replicated


def _local_sum(leaf: Any) -> int:
    """Returns the sum over the elements in this process, each of them counted once."""
    total = 0
    for start, values in _local_shards(leaf):
        # The whole array in one piece is read without index arithmetic per axis.
        whole = values.shape == tuple(leaf.shape)
        shape = (math.prod(leaf.shape),) if whole else tuple(leaf.shape)
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        first = sum(i * stride for i, stride in zip(start, strides, strict=False))
        piece = values.reshape(-1) if whole else values
        total += _sum(piece, 0 if whole else first, strides)
    return total % 2**64


def _local_shards(leaf: Any) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yields the start index and the values of each shard, without its replicas."""
    if not isinstance(leaf, jax.Array):
        yield [0] * np.ndim(leaf), np.asarray(leaf)
        return

    shards = leaf.addressable_shards
    # Replica 0 of an array that is whole everywhere may be on another process.
    if leaf.is_fully_replicated:
        shards = shards[:1]
    for shard in shards:
        if leaf.is_fully_replicated or shard.replica_id == 0:
            yield [part.start or 0 for part in shard.index], np.asarray(shard.data)


def _sum(values: np.ndarray, first: int, strides: list[int]) -> int:
    """Returns the sum of the mixed elements.

    Args:
      values: block of the whole array.
      first: position of its first element in the whole array.
      strides: distance between neighbours along each axis, in elements.
    """
    if values.size > BLOCK:
        axis = int(np.argmax(values.shape))
        half = values.shape[axis] // 2
        low, high = np.split(values, [half], axis)
        then = first + half * strides[axis]
        return _sum(low, first, strides) + _sum(high, then, strides)

    # Elements as unsigned integers of their own size, so that every bit counts.
    kind = np.dtype(f"u{values.dtype.itemsize}")
    words = np.ascontiguousarray(values).view(kind).astype(np.uint64)
    position = np.full((1,) * values.ndim, first + 1, np.uint64)
    for axis, stride in enumerate(strides):
        steps = np.arange(values.shape[axis], dtype=np.uint64) * np.uint64(stride)
        position = position + steps.reshape([-1] + [1] * (values.ndim - axis - 1))

    words += position * np.uint64(GOLDEN)
    words ^= words >> np.uint64(30)
    words *= np.uint64(MIX_1)
    words ^= words >> np.uint64(27)
    words *= np.uint64(MIX_2)
    words ^= words >> np.uint64(31)
    return int(words.sum(dtype=np.uint64))
