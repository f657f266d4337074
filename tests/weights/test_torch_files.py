"""Files of state dicts: wrapped, damaged, hostile, of other kinds."""

import os
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from released import equal, save

from wsvad_jax.utils.errors import InputError
from wsvad_jax.weights.torch_files import read_state, write_state

torch = pytest.importorskip("torch")


def test_bfloat16_files(tmp_path):
    x = torch.arange(6).reshape(2, 3).to(torch.bfloat16)
    torch.save({"a": x}, tmp_path / "a.pth")
    state = read_state(tmp_path / "a.pth")
    np.testing.assert_array_equal(state["a"].astype(np.float32), x.float().numpy())
    write_state(tmp_path / "b.pth", state)
    assert torch.equal(torch.load(tmp_path / "b.pth")["a"], x)


def test_training_checkpoints_are_unwrapped(released, tmp_path):
    state = released("mil_ranking")
    tensors = {f"module.{k}": torch.from_numpy(np.array(x)) for k, x in state.items()}
    for key in ("model_state_dict", "state_dict", "model"):
        # As the released code saves them: with its best metric, a NumPy scalar.
        whole = {"epoch": 3, key: tensors, "ap": np.float64(0.5), "lr": [1e-5]}
        torch.save(whole, tmp_path / "checkpoint.pth")
        equal(read_state(tmp_path / "checkpoint.pth"), state)


def test_dsanets_second_clip_takes_no_room(released, tmp_path):
    state = released("dsanet")
    write_state(tmp_path / "a.pth", state)
    once = {k: x for k, x in state.items() if "clip_adapter.clipmodel." not in k}
    write_state(tmp_path / "b.pth", once)
    a, b = ((tmp_path / name).stat().st_size for name in ("a.pth", "b.pth"))
    assert a < 1.2 * b


class Intruder:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare", "nested"])
def test_a_pickle_that_runs_code_is_refused(kind, released, tmp_path):
    mark = tmp_path / "ran"
    evil = Intruder(str(mark))
    path = tmp_path / "model.pth"
    if kind == "bare":
        path.write_bytes(pickle.dumps(evil, protocol=2))
    elif kind == "nested":
        state = {k: torch.from_numpy(x) for k, x in released("mil_ranking").items()}
        torch.save({"model_state_dict": state, "optimizer": evil}, path)
    else:
        torch.save({"a": evil}, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(InputError, match="refused.*mkdir.*nothing was run") as e:
        read_state(path)
    assert str(path) in str(e.value) and "\n" not in str(e.value)
    assert not mark.exists()


def test_damaged_files(released, tmp_path):
    path = tmp_path / "whole.pth"
    save(path, released("mil_ranking"))
    whole = path.read_bytes()
    write_state(tmp_path / "whole.safetensors", released("mil_ranking"))
    tensors = (tmp_path / "whole.safetensors").read_bytes()
    broken = {
        "half.pth": whole[: len(whole) // 2],
        "tail.pth": whole[:-10],
        "start.pth": whole[:3],
        "empty.pth": b"",
        "page.pth": b"<!DOCTYPE html><html>not found</html>",
        "half.safetensors": tensors[: len(tensors) // 2],
        "empty.safetensors": b"",
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as e:
            read_state(tmp_path / name)
        assert str(e.value).startswith(str(tmp_path / name))
        assert "\n" not in str(e.value)


@pytest.fixture(scope="module")
def whole_files(released, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name in ("m.pth", "m.safetensors"):
        write_state(folder / name, {"a": released("mil_ranking")["fc3.weight"]})
    return folder


@given(
    share=st.floats(0, 1, exclude_max=True),
    ending=st.sampled_from(["pth", "safetensors"]),
)
@settings(max_examples=40, deadline=None)
def test_a_file_cut_anywhere_is_damaged(share, ending, whole_files):
    content = (whole_files / f"m.{ending}").read_bytes()
    path = whole_files / f"cut.{ending}"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"cut\..* (damaged|not a complete)"):
        read_state(path)


@pytest.mark.parametrize(
    "content, match",
    [
        ({}, "found nothing, expected a state dict"),
        ([torch.zeros(2)], "found a list, expected a state dict"),
        ({"epoch": 3, "weights": {"a": torch.zeros(2)}}, "'epoch' is an int, expected"),
    ],
)
def test_files_without_a_state_dict(content, match, tmp_path):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(InputError, match=match):
        read_state(tmp_path / "model.pth")


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_state(tmp_path / "none.pth")


def test_without_pytorch_the_remedy_is_named(monkeypatch, released, tmp_path):
    path = save(tmp_path / "m.pth", released("mil_ranking"))
    write_state(tmp_path / "m.safetensors", released("mil_ranking"))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"pip install torch"):
        read_state(path)
    equal(read_state(tmp_path / "m.safetensors"), released("mil_ranking"))
