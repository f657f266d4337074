"""The digest of arrays: equal on any mesh, different for any changed element."""

import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from wsvad_jax.parallel import array_digest
from wsvad_jax.parallel.array_digest import has_digest, tree_digest

TREE = {
    "kernel": np.random.RandomState(0).standard_normal((64, 48)).astype(np.float32),
    "step": np.int32(3),
    "empty": np.zeros((0, 3), np.float32),
    "counts": np.arange(8 * 40 * 16, dtype=np.int32).reshape(8, 40, 16),
    "mask": np.ones(2000, bool),
    "half": np.linspace(0, 1, 1024).astype(np.float16),
}
ON_MESHES = """
import jax, pathlib, sys
from test_array_digest import TREE
from wsvad_jax.parallel.array_digest import tree_digest
from wsvad_jax.parallel.mesh import fsdp_shardings, make_mesh
for fsdp in (1, 2, 8):
    mesh = make_mesh({"fsdp": fsdp})
    tree = jax.device_put(TREE, fsdp_shardings(TREE, mesh))
    print(tree_digest(tree))
"""


def test_equal_on_any_mesh():
    folder = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-c", ON_MESHES],
        env={
            **os.environ,
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
            "PYTHONPATH": os.pathsep.join([folder, *sys.path]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [tree_digest(TREE)] * 3, done.stderr


@pytest.mark.parametrize("name", [name for name in TREE if name != "empty"])
def test_one_changed_bit_changes_it(name):
    flat = TREE[name].reshape(-1)
    seen = {tree_digest(TREE)}
    for i in {0, flat.nbytes // 2, flat.nbytes - 1}:
        changed = flat.copy()
        changed.view(np.uint8)[i] ^= 1
        seen.add(tree_digest({**TREE, name: changed.reshape(TREE[name].shape)}))
    assert len(seen) == 1 + len({0, flat.nbytes // 2, flat.nbytes - 1})


def test_order_type_and_shape_count():
    a = jnp.arange(6.0)
    others = (a[::-1], a.astype(int), a.reshape(2, 3))
    assert len({tree_digest({"a": x}) for x in (a, *others)}) == 4
    assert tree_digest([a, a + 1]) != tree_digest([a + 1, a])


def test_blocks_do_not_count(monkeypatch):
    want = tree_digest(TREE)
    monkeypatch.setattr(array_digest, "BLOCK", 100)
    assert tree_digest(TREE) == want
    by_columns = {**TREE, "counts": np.asfortranarray(TREE["counts"])}
    assert tree_digest(by_columns) == want


def test_older_digests_are_known():
    older = array_digest._whole_arrays_digest(TREE)
    assert ":" not in older and has_digest(TREE, older)
    assert has_digest(TREE, tree_digest(TREE))
    changed = {**TREE, "step": np.int32(4)}
    assert not has_digest(changed, older) and not has_digest(changed, tree_digest(TREE))
