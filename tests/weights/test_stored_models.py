"""Checkpoints and models that are damaged, and those that only can't be read now."""

import contextlib
import errno
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from wsvad_jax.training.checkpoints import Checkpoints
from wsvad_jax.utils.errors import InputError, UnreadableError
from wsvad_jax.weights import model_folder
from wsvad_jax.weights.model_folder import load_params, save_params

WEIGHTS = np.random.RandomState(0).standard_normal((20, 30)).astype(np.float32)
TREE = {"state": {"w": jnp.asarray(WEIGHTS)}, "best": {"b": jnp.ones(3)}}
META = {
    "model": "mil_ranking",
    "config": {"model_name": "a", "protocol": "clean", "data": {"name": "x"}},
    "card": None,
    "features": None,
    "tower": None,
    "length": 8,
    "width": 4,
}
# What orbax leaves behind of a read that failed.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two checkpoints of a run."""
    folder = tmp_path_factory.mktemp("written") / "checkpoints"
    checkpoints = Checkpoints(folder)
    for step in (2, 4):
        checkpoints.save(step, TREE, {"evaluated": step})
    checkpoints.close()
    return folder


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "checkpoints")


def restored(folder: pathlib.Path, template=TREE, newest=None) -> Any:
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.restore(template, newest)
    finally:
        checkpoints.close()


def names(folder: pathlib.Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def largest(folder: pathlib.Path) -> pathlib.Path:
    files = [p for p in folder.rglob("*") if p.is_file()]
    return max(files, key=lambda p: p.stat().st_size)


def flip(path: pathlib.Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def older(folder: pathlib.Path) -> None:
    """Takes away what older versions didn't write."""
    for path in folder.glob("*/files.json"):
        path.unlink()


@contextlib.contextmanager
def nobody():
    """Runs as a user who may read nothing of this one's."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("version", ["now", "older"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "record"])
def test_a_damaged_checkpoint_is_moved_aside(folder, capsys, damage, version):
    if version == "older":
        older(folder)
    path = largest(folder / "4/tree")
    if damage == "flip":
        flip(path)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "delete":
        path.unlink()
    else:
        (folder / "4/record/metadata").write_text('{"evalu')
    before = {name for name in names(folder / "4")}
    step, tree, record = restored(folder)
    assert (step, record) == (2, {"evaluated": 2})
    np.testing.assert_array_equal(tree["state"]["w"], TREE["state"]["w"])
    assert names(folder / "damaged/4") == before and not (folder / "4").exists()
    err = capsys.readouterr().err
    assert "checkpoint 4 in" in err and f"it is moved to {folder}/damaged/4" in err


def test_damaged_ones_are_kept_side_by_side(folder, capsys):
    for _ in range(2):
        flip(largest(folder / "4/tree"))
        assert restored(folder)[0] == 2
        checkpoints = Checkpoints(folder)
        checkpoints.restore(TREE)
        checkpoints.save(4, TREE, {"evaluated": 4})
        checkpoints.close()
    assert {p.name for p in (folder / "damaged").iterdir()} == {"4", "4-2"}
    assert restored(folder)[0] == 4
    for step in ("2", "4"):
        largest(folder / step / "tree").unlink()
    capsys.readouterr()
    assert restored(folder) is None
    err = capsys.readouterr().err
    assert "training starts at step 0; the damaged ones are in" in err
    assert {p.name for p in (folder / "damaged").iterdir()} == {"2", "4", "4-2", "4-3"}


@pytest.mark.parametrize("version", ["now", "older"])
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error", "checkpoints/4/tree/d/ab"),
        OSError(errno.ESTALE, "Stale file handle", "checkpoints/4/tree/d/ab"),
        MemoryError("Unable to allocate 3 GiB"),
        ValueError(
            'UNAVAILABLE: Error reading "w/0.0" in OCDBT database at local file "a/"'
        ),
        ValueError(
            'FAILED_PRECONDITION: Error reading "w": Failed to open: "a/b": Input/output '
            "error [os_error_code='5']"
        ),
        "device memory",
    ],
    ids=lambda e: type(e).__name__ + str(getattr(e, "errno", "")),
)
def test_a_bad_moment_is_no_damage(folder, monkeypatch, capsys, error, version):
    import jax
    import orbax.checkpoint as ocp

    if version == "older":
        older(folder)
    if error == "device memory":
        error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    def restore(*_, **__):
        # As orbax does: the cause is below an error of its own.
        raise RuntimeError("Encountered error while reading array index") from error

    before = names(folder)
    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "restore", restore)
        with pytest.raises(UnreadableError, match="4: cannot be read now") as e:
            restored(folder)
    assert "damaged" not in str(e.value) and capsys.readouterr().err == ""
    assert names(folder) == before and restored(folder)[0] == 4


@pytest.mark.parametrize("version", ["now", "older"])
def test_files_of_somebody_else_are_no_damage(folder, version):
    if version == "older":
        older(folder)
    restored(folder)  # all that is imported late
    before = names(folder)
    checkpoints = Checkpoints(folder)
    for closed in (folder / "4/record", largest(folder / "4/tree")):
        closed.chmod(0)
        for path in folder.parents:
            if path.owner() == "root" and path.stat().st_mode & 0o077 == 0:
                path.chmod(0o711)
        folder.chmod(0o755)
        with nobody(), pytest.raises(UnreadableError, match="Permission denied"):
            checkpoints.restore(TREE)
        closed.chmod(0o755)
    checkpoints.close()
    assert names(folder) == before


@pytest.mark.parametrize("version", ["now", "older"])
def test_a_file_that_cannot_be_opened_is_no_damage(folder, version):
    """A link in circles is an error of the system's that any user can have."""
    if version == "older":
        older(folder)
    path = largest(folder / "4/tree")
    path.unlink()
    path.symlink_to(path)
    before = names(folder)
    with pytest.raises(
        UnreadableError, match=r"cannot be read now \(.*symbolic links\)"
    ) as e:
        restored(folder)
    assert path.name in str(e.value)
    assert names(folder) == before


@pytest.mark.parametrize("version", ["now", "older"])
@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ({"w": jnp.ones((20, 31))}, r"state/w is float32 \[20, 30\], but .* 31\]"),
        ({"w": jnp.ones((20, 30), jnp.bfloat16)}, "but this training has bfloat16"),
        ({"v": jnp.ones((20, 30))}, "state/v is missing"),
    ],
)
def test_another_models_checkpoint_is_no_damage(folder, template, wanted, version):
    if version == "older":
        older(folder)
    before = names(folder)
    with pytest.raises(InputError, match=wanted):
        restored(folder, {**TREE, "state": template})
    assert names(folder) == before


def test_checkpoints_ahead_are_kept(folder, capsys):
    assert restored(folder, newest=3)[0] == 2
    assert (folder / "later/4/tree").is_dir() and not (folder / "4").exists()
    assert "is ahead of the other seeds; it is moved to" in capsys.readouterr().err


@pytest.fixture
def model(tmp_path):
    save_params(tmp_path / "model", {"w": WEIGHTS}, {}, META)
    return tmp_path / "model"


def forget(model: pathlib.Path) -> None:
    """Makes the model one of an older version."""
    from wsvad_jax.utils.files import read_json, write_json

    meta = read_json(model / "meta.json")
    del meta["files"]
    write_json(model / "meta.json", meta)


@pytest.mark.parametrize("version", ["now", "older"])
@pytest.mark.parametrize("damage", [flip, pathlib.Path.unlink])
def test_a_damaged_model_is_said(model, damage, version):
    load_params(model)
    if version == "older":
        forget(model)
    damage(largest(model / "params"))
    with pytest.raises(InputError, match="the model is damaged .*convert it again"):
        load_params(model)


@pytest.mark.parametrize("version", ["now", "older"])
def test_a_model_in_a_bad_moment_is_not_called_damaged(model, version, monkeypatch):
    if version == "older":
        forget(model)
    path = largest(model / "params")
    kept = path.rename(path.with_name("kept"))
    path.symlink_to(path)
    with pytest.raises(UnreadableError, match="cannot be read now") as e:
        load_params(model)
    assert "damaged" not in str(e.value) and "again" not in str(e.value)
    kept.replace(path)

    def has_digest(tree, digest):
        raise MemoryError("Unable to allocate 3 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(model_folder, "has_digest", has_digest)
        with pytest.raises(UnreadableError, match="there is not enough memory"):
            load_params(model)
    load_params(model)


NO_ROOM = """
import pathlib, resource, signal, sys
import numpy as np
from wsvad_jax.training.checkpoints import Checkpoints
from wsvad_jax.utils import program
def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    checkpoints = Checkpoints(pathlib.Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    checkpoints.save(1, {"a": np.random.RandomState(0).rand(300, 1000)}, {})
    if sys.argv[2] == "next save":
        checkpoints.save(2, {"a": np.zeros(3)}, {})
    checkpoints.close()
    return 0
program.run(main)
"""


@pytest.mark.parametrize("noticed", ["next save", "close"])
def test_a_checkpoint_that_finds_no_room_is_one_sentence(tmp_path, noticed):
    done = subprocess.run(
        [sys.executable, "-c", NO_ROOM, str(tmp_path / "w"), noticed],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {tmp_path / 'w'}/1")
    assert done.stderr.endswith(": File too large\n") and done.stderr.count("\n") == 1
