"""Checkpoints that are written while training runs on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from wsvad_jax.parallel import array_digest
from wsvad_jax.training import checkpoints as checkpoints_module
from wsvad_jax.training.checkpoints import FILES, Checkpoints, remove_checkpoints


@functools.partial(jax.jit, donate_argnums=0)
def step(state):
    return jax.tree.map(lambda x: x + 1, state)


def test_steps_that_donate_the_state_leave_the_checkpoint_alone(tmp_path):
    state = {"w": jnp.zeros((500, 1000)), "step": jnp.zeros((), jnp.int32)}
    checkpoints = Checkpoints(tmp_path / "c", keep=3)
    for i in (5, 10, 15):
        for _ in range(5):
            state = step(state)
        checkpoints.save(i, state, {})
        for _ in range(3):  # other states, which nobody saves
            state = step(state)
        state = jax.tree.map(lambda x: x - 3, state)
    checkpoints.close()

    for i in (15, 10, 5):
        checkpoints = Checkpoints(tmp_path / "c", keep=3)
        found = checkpoints.restore(state, newest=i)
        checkpoints.close()
        assert found is not None and found[0] == i
        np.testing.assert_array_equal(found[1]["w"], np.full((500, 1000), i))


def test_hashes_of_files_are_there_once_a_checkpoint_is_whole(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    for i in (1, 2, 3):
        checkpoints.save(i, {"w": jnp.ones(3)}, {})
        if i > 1:
            assert (tmp_path / f"c/{i - 1}" / FILES).is_file()
    checkpoints.close()
    assert (tmp_path / "c/3" / FILES).is_file() and not (tmp_path / "c/1").exists()


def test_a_killed_process_leaves_a_checkpoint_without_hashes(tmp_path):
    tree = {"w": jnp.arange(3.0)}
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(1, tree, {"a": 1})
    checkpoints.manager.wait_until_finished()  # whole, but nobody has noticed
    assert not (tmp_path / "c/1" / FILES).exists()
    found = Checkpoints(tmp_path / "c").restore(tree)
    assert found is not None and found[0] == 1 and found[2] == {"a": 1}
    checkpoints.close()


def test_checkpoints_with_an_older_digest_are_restored(tmp_path, monkeypatch):
    tree = {"w": jnp.arange(3.0)}
    older = array_digest._whole_arrays_digest
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints_module, "tree_digest", older)
        checkpoints = Checkpoints(tmp_path / "c")
        checkpoints.save(1, tree, {})
        checkpoints.close()
    found = Checkpoints(tmp_path / "c").restore(tree)
    assert found is not None and found[0] == 1


def test_removal_takes_checkpoints_alone(tmp_path, capsys):
    folder = tmp_path / "c"
    checkpoints = Checkpoints(folder)
    for i in range(3):
        checkpoints.save(i, {"w": jnp.ones(300)}, {})
    checkpoints.close()
    wanted = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    (folder / "3.orbax-checkpoint-tmp-0").mkdir()
    (folder / "later/4").mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")

    assert remove_checkpoints(folder) == wanted
    assert {p.name for p in folder.iterdir()} == {"later", "notes.txt"}
    assert (folder / "later/4").is_dir()
    assert remove_checkpoints(folder) == remove_checkpoints(tmp_path / "none") == 0
    assert capsys.readouterr().err == ""


def test_a_checkpoint_that_cannot_be_removed_is_named(tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "c").mkdir()
    (tmp_path / "c/4").symlink_to(tmp_path / "elsewhere")
    assert remove_checkpoints(tmp_path / "c") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'c/4'} could not be removed")
    assert (tmp_path / "elsewhere").is_dir()
