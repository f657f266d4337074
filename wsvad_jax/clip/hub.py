"""Finds, downloads and reads the files of a CLIP snapshot.

A snapshot's weights are the first of `WEIGHT_FILES` that it has. Each may be sharded:
then NAME.index.json names the shard of each tensor. A single file takes precedence over
shards.
"""

import contextlib
import importlib
import importlib.util
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from flax import serialization

from wsvad_jax.clip import weight_names
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.hub_access import HUB_TIMEOUT, ask

WEIGHT_FILES = ("flax_model.msgpack", "model.safetensors", "pytorch_model.bin")
INDEX = ".index.json"
OTHER_FILES = (
    "config.json", "preprocessor_config.json", "processor_config.json",
    "adapter_config.json",
    "open_clip_config.json", "vocab.json", "merges.txt", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json",
)  # fmt: skip
# Endings of other weight files, which errors name.
OTHER_WEIGHTS = (".safetensors", ".bin", ".msgpack", ".h5", ".pt", ".pth", INDEX)
ADAPTER = ("adapter_config.json", "adapter_model.")
OTHER_KINDS = {  # by files that only they have
    "a model of open_clip": (
        "open_clip_config.json",
        "open_clip_pytorch_model.bin",
        "open_clip_model.safetensors",
    ),
    "a model of sentence-transformers": ("modules.json",),
    "a pipeline of diffusers": ("model_index.json",),
}
QUIET = "TRANSFORMERS_NO_ADVISORY_WARNINGS"


def transformers() -> Any:
    """Imports transformers without its advice to install PyTorch.

    A value of the variable that the user has set takes precedence.
    """
    with _environment(QUIET, "1"):
        return importlib.import_module("transformers")


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Sets an environment variable for the context, unless it is set."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


def download(name: str) -> pathlib.Path:
    """Returns the hub's local copy of a model, downloading what is missing.

    If the hub doesn't answer in `HUB_TIMEOUT`, an earlier download is used.

    Raises:
      InputError: the hub has no such model, or gives no answer and there is no copy.
    """
    from huggingface_hub import snapshot_download

    advice = (
        "pass a local folder with config.json, vocab.json, merges.txt and "
        f"{' or '.join(WEIGHT_FILES[:2])} instead"
    )
    if not name.strip():
        raise InputError(
            "the name of the CLIP model is empty; pass its hub name or folder"
        )
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"{name}: no such folder; {advice}")

    # Without an answer, each request would be repeated, for minutes.
    failure = _ask_hub(name)

    def get(*patterns: str) -> pathlib.Path:
        try:
            return pathlib.Path(
                snapshot_download(
                    name,
                    allow_patterns=list(patterns),
                    local_files_only=failure is not None,
                )
            )
        except Exception as e:  # noqa: BLE001 - kinds differ between hub versions
            reason = type(failure or e).__name__
            raise InputError(
                f"{name}: not a folder here, and the Hugging Face hub did not give a "
                f"model of that name ({reason}); {advice}"
            ) from None

    # Kinds of weights are tried in turn: a hub model often has several, and one is
    # enough.
    path = pathlib.Path()
    for weights in _readable():
        path = get(*OTHER_FILES, weights, f"{weights}{INDEX}")
        if (path / weights).exists():
            break
        if (path / f"{weights}{INDEX}").exists():
            get(*set(_shards(path / f"{weights}{INDEX}").values()))
            break
    return path


def _ask_hub(name: str) -> Exception | None:
    """Asks the hub whether it has a model; returns the error if it gives no answer."""
    from huggingface_hub import HfApi

    try:
        ask(lambda: HfApi().model_info(name, timeout=HUB_TIMEOUT), HUB_TIMEOUT)
    except Exception as e:  # noqa: BLE001 - kinds differ between hub versions
        return e
    return None


def check_adapter(folder: pathlib.Path) -> None:
    """Raises InputError if the folder has an adapter of its weights."""
    # transformers would apply it; the weights alone are another model.
    adapters = sorted(p.name for p in folder.iterdir() if p.name.startswith(ADAPTER))
    if adapters:
        raise InputError(
            f"{folder}: {' and '.join(adapters)} are an adapter of the weights (LoRA), "
            "which isn't supported; merge it into the weights first (PEFT's "
            "merge_and_unload, then save_pretrained), or remove it to use the weights "
            "without it"
        )


def other_weights(chosen: pathlib.Path) -> list[pathlib.Path]:
    """Returns the other weight files beside the one that `find_weights` chose."""
    paths = [
        chosen.with_name(name + end) for name in _readable() for end in ("", INDEX)
    ]
    return [path for path in paths if path != chosen and path.exists()]


def check_config(folder: pathlib.Path) -> None:
    """Raises InputError if the folder holds another program's model."""
    if (folder / "config.json").exists():
        return

    names = {path.name for path in folder.iterdir()}
    kinds = [
        kind for kind, files_of_it in OTHER_KINDS.items() if names & set(files_of_it)
    ]
    listed = ", ".join(
        sorted(n for n in names if n.endswith((*OTHER_WEIGHTS, ".json")))
    )

    # An empty folder passes: the missing config.json is reported when it is read.
    if kinds or listed:
        content = f"it looks like {kinds[0]}" if kinds else f"it has {listed:.120}"
        raise InputError(
            f"{folder}: no config.json there; {content}; expected a CLIP model as "
            "transformers saves it (CLIPModel.save_pretrained): config.json, vocab.json, "
            f"merges.txt and {WEIGHT_FILES[1]}"
        )


def find_weights(folder: pathlib.Path) -> pathlib.Path:
    """Returns the weight file, or the index of shards, for `read_tensors`.

    Raises:
      InputError: the folder has neither; the error names the other weight files.
    """
    for name in _readable():
        for path in (folder / name, folder / f"{name}{INDEX}"):
            if path.exists():
                return path

            # The hub's cache has links; a broken one must not select another kind.
            if path.is_symlink():
                raise InputError(
                    f"{path}: a link to a file that is missing; get the file again"
                )

    others = sorted(p.name for p in folder.iterdir() if p.name.endswith(OTHER_WEIGHTS))
    unread = f"; {', '.join(others[:4])} can't be read here" if others else ""
    raise InputError(
        f"{folder}: no CLIP weights there; expected {' or '.join(WEIGHT_FILES[:2])}"
        f" (or {WEIGHT_FILES[2]}, which needs PyTorch), whole or in shards with their "
        f"NAME{INDEX}{unread}"
    )


def _readable() -> tuple[str, ...]:
    """Returns the weight files that can be read, by precedence."""
    torch = importlib.util.find_spec("torch") is not None
    return WEIGHT_FILES if torch else WEIGHT_FILES[:2]


def read_tensors(file: pathlib.Path) -> tuple[weight_names.Flat, weight_names.Source]:
    """Reads a weight file, or all shards of an index.

    Raises:
      InputError: a file can't be read or holds anything but plain tensors, or a shard
        or tensor of the index is missing.
    """
    if not file.name.endswith(INDEX):
        state = _read(file)
    else:
        shards = _shards(file)
        state = {}
        for shard in sorted(set(shards.values())):
            names = {name for name, path in shards.items() if path == shard}
            state |= _read_shard(file, shard, names)

    if file.name.startswith(WEIGHT_FILES[0]):
        return state, weight_names.flax_source

    # Old versions of transformers saved this constant with the weights.
    state = {k: v for k, v in state.items() if not k.endswith(".position_ids")}
    return state, weight_names.torch_source


def _shards(index: pathlib.Path) -> dict[str, str]:
    """Returns the shard of each tensor, by the tensor's name."""
    value = files.read_json(index)
    shards = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(shards, dict) or not shards:
        raise InputError(f"{index}: expected an index of shards, with key weight_map")

    # A path could point anywhere on this machine: only plain names are accepted.
    for tensor, shard in shards.items():
        if not isinstance(shard, str) or pathlib.PurePath(shard).name != shard:
            raise InputError(
                f"{index}: the shard of {tensor} is {shard!r:.60}; expected the name of "
                "a file beside the index"
            )
    return shards


def _read_shard(index: pathlib.Path, shard: str, wanted: set[str]) -> weight_names.Flat:
    """Returns the tensors that an index expects in one of its shards."""
    file = index.with_name(shard)
    if not file.exists():
        raise InputError(
            f"{file}: no such shard, but {index.name} names it; get it again"
        )

    state = _read(file)
    if lost := sorted(wanted - state.keys()):
        raise InputError(
            f"{file}: the shard lacks {', '.join(lost[:4])}, which {index.name} expects "
            "there; get both files again from one source"
        )

    # A tensor that the index doesn't name stays: the tree's check reports it.
    return state


def _read(file: pathlib.Path) -> weight_names.Flat:
    """Reads a file of tensors.

    Raises:
      InputError: the file can't be read, or holds anything but plain tensors.
    """
    try:
        if file.suffix == ".msgpack":
            tree: Any = serialization.msgpack_restore(file.read_bytes())
            return weight_names.flatten(tree)
        if file.suffix == ".safetensors":
            import ml_dtypes  # noqa: F401 so that NumPy knows bfloat16
            import safetensors.numpy

            return dict(safetensors.numpy.load_file(file))
        import torch

        # weights_only: a pickle could run any code.
        loaded = torch.load(file, map_location="cpu", weights_only=True)
        return {name: _numpy(x) for name, x in loaded.items()}
    except Exception as e:  # noqa: BLE001 - damage can raise anything
        reason = " ".join(str(e).split()) or type(e).__name__
        if isinstance(e, OSError):
            raise InputError(
                f"{file}: can't be read ({e.strerror or reason})"
            ) from None

        # PyTorch raises a RuntimeError with this text.
        if isinstance(e, MemoryError) or "allocate memory" in reason:
            raise InputError(
                f"{file}: not enough memory for its {file.stat().st_size} bytes; free "
                "some, or use a smaller model"
            ) from None

        raise InputError(
            f"{file}: not a whole file of plain tensors ({reason[:200]}); "
            "get it again from a source that you trust"
        ) from None


def _numpy(x: Any) -> np.ndarray:
    """Returns a PyTorch tensor's values, in half precision or else float32."""
    kind = str(x.dtype).removeprefix("torch.")
    if kind == "bfloat16":  # NumPy itself has no such type
        import ml_dtypes
        import torch

        return x.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return x.numpy() if kind == "float16" else x.float().numpy()
