"""Weight files for readers.py: PyTorch, safetensors and CLIP snapshots."""

import io
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np


def state(name: str) -> Callable[[pathlib.Path], None]:
    def write(folder):
        from wsvad_jax.weights.torch_files import write_state

        random = np.random.RandomState(0)
        shapes = {"fc1": (8, 6), "fc2": (4, 8), "fc3": (1, 4)}
        tensors = {}
        for layer, shape in shapes.items():
            weight = random.standard_normal(shape).astype(np.float32)
            tensors[f"{layer}.weight"] = weight
            tensors[f"{layer}.bias"] = np.zeros(shape[0], np.float32)
        write_state(folder / name, tensors)

    return write


def other_states() -> list[bytes]:
    """What PyTorch saves beside plain tensors."""
    import torch

    eye = torch.eye(3)
    values: list[Any] = [
        {"state_dict": {"module.fc1.weight": eye, "module.fc1.bias": eye[0]}},
        {"fc1.weight": eye.to_sparse(), "fc1.bias": eye[0]},
        {"fc1.weight": torch.quantize_per_tensor(eye, 0.1, 0, torch.qint8)},
        {"fc1.weight": torch.empty(3, device="meta")},
        {"fc1.weight": eye.to(torch.float8_e4m3fn), "fc1.bias": eye},
        {"fc1.weight": torch.complex(eye, eye).conj()},
        {"fc1.weight": torch.nested.nested_tensor([eye, eye[:1]])},
        {1: eye},
        [eye],
    ]
    found = []
    for value in values:
        out = io.BytesIO()
        torch.save(value, out)
        found.append(out.getvalue())
    return found


def read_state(path):
    from wsvad_jax.weights import torch_files, torch_mapping

    tensors = torch_files.read_state(path)
    torch_mapping.identify(tensors)
    torch_mapping.import_state("mil_ranking", tensors, source=str(path))


def clip_snapshot(folder):
    from sample_videos import write_clip

    from wsvad_jax.clip import snapshot

    write_clip(folder)
    s = snapshot.load_snapshot(folder)
    snapshot.save_snapshot(folder, s.text, s.vision, s.params, weights="safetensors")


def clip_without(*names: str) -> Callable[[pathlib.Path], None]:
    def write(folder):
        clip_snapshot(folder)
        for name in names:
            (folder / name).unlink()

    return write


def read_clip(path):
    from wsvad_jax.clip import snapshot

    snapshot.load_snapshot(path.parent)
