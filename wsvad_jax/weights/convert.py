"""Converts released PyTorch checkpoints into model folders, and back."""

import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from wsvad_jax.utils.errors import InputError
from wsvad_jax.weights import torch_mapping
from wsvad_jax.weights.tensor_file import TENSOR_FILE
from wsvad_jax.weights.torch_architecture import (
    check_sizes,
    expected_variables,
    lengths,
)
from wsvad_jax.weights.torch_files import import_torch, read_state, write_state

TOKENIZER = (
    "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json",
)  # fmt: skip


def import_file(
    config: Any,
    source: str | os.PathLike,
    output: str | os.PathLike,
    tokenizer: str | None = None,
) -> pathlib.Path:
    """Converts a released checkpoint into a model folder, which it returns.

    Args:
      config: recipe of the model in the file.
      source: file that `read_state` reads.
      output: model folder to write; an existing one is replaced.
      tokenizer: hub name or folder of a CLIP snapshot. Its tokenizer is copied beside
        the CLIP weights of the file, since a checkpoint has no tokenizer.

    Raises:
      InputError: the file can't be read, or doesn't fit the recipe (see `read_state`,
        `check_sizes` and `torch_mapping.import_state`); or `output` holds other files.
    """
    from wsvad_jax.clip import snapshot
    from wsvad_jax.weights.model_folder import save_params

    source, output = pathlib.Path(source), pathlib.Path(output)
    _check_output(output)

    # Every check comes before the first file is written.
    name = config.model_name
    torch_mapping.released_checkpoint(name)  # raises for a model that has none
    state = read_state(source)
    torch_mapping.check_model(name, state, str(source), config.model.to_dict())
    check_sizes(config, state, str(source))
    expected = expected_variables(config, state)
    variables, clip = torch_mapping.import_state(name, state, expected, str(source))
    if tokenizer and not clip:
        raise InputError(
            f"--clip {tokenizer}: {source} contains no CLIP model that a tokenizer could "
            "join; leave the flag out"
        )

    # CLIP's weights become a snapshot, which other programs load by its folder.
    clip_params = _within(source, snapshot.openai_to_flax, clip) if clip else None
    files = _tokenizer_files(tokenizer) if tokenizer and clip else {}

    params, batch_stats = (_float32(variables[k]) for k in ("params", "batch_stats"))
    output.parent.mkdir(parents=True, exist_ok=True)

    # A conversion that stops half-way leaves no model behind.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".convert-") as made:
        work = pathlib.Path(made)
        if clip_params:
            sizes = snapshot.openai_configs(clip)
            snapshot.save_snapshot(work / "clip", *sizes, clip_params, tokenizer=files)

        if unused := torch_mapping.flatten(variables["unused"]):
            np.savez(work / "unused.npz", **unused)
        save_params(work, params, batch_stats, _meta(config, state, source))
        _replace(work, output)
    return output


def _meta(
    config: Any, state: Mapping[str, np.ndarray], source: pathlib.Path
) -> dict[str, Any]:
    from wsvad_jax.datasets import registry

    # A checkpoint doesn't name its classes; the dataset's card does.
    card = registry.find_card(config.data.name)
    T, D = lengths(config, state)

    return {
        "model": config.model_name,
        "dataset": config.data.name,
        "card": card and card.to_json(),
        "step": None,
        "selection": "converted",
        "checkpoint": source.name,
        "config": config.to_dict(),
        "length": T,
        "width": D,
        # The export restores the types of the file.
        "torch_dtypes": {
            k: x.dtype.name for k, x in state.items() if x.dtype != np.float32
        },
    }


def _check_output(output: pathlib.Path) -> None:
    """Raises InputError if the output folder holds anything but a model."""
    model = (output / "meta.json").is_file()
    if output.exists() and not model and any(output.iterdir()):
        raise InputError(
            f"{output} is not empty and holds no model (no meta.json); pass a new "
            "folder, or delete it"
        )


def _replace(work: pathlib.Path, output: pathlib.Path) -> None:
    """Moves the files of a model into its folder.

    meta.json is removed first and written last, so an incomplete folder is no model.
    """
    output.mkdir(exist_ok=True)

    for name in ("meta.json", "unused.npz", TENSOR_FILE):
        (output / name).unlink(missing_ok=True)
    for name in ("clip", "params"):
        shutil.rmtree(output / name, ignore_errors=True)

    for name in ("clip", "unused.npz", "params", "meta.json"):
        if (work / name).exists():
            (work / name).rename(output / name)


def _within(source: pathlib.Path, function: Callable, *args: Any) -> Any:
    """Calls `function`; adds the file's name to its errors."""
    try:
        return function(*args)
    except InputError as e:
        raise InputError(f"{source}: {e}") from None


def _float32(tree: Mapping[str, Any]) -> dict[str, Any]:
    flat = torch_mapping.flatten(tree)
    return torch_mapping.nest({k: np.asarray(x, np.float32) for k, x in flat.items()})


def _tokenizer_files(name_or_dir: str) -> dict[str, str]:
    """Returns the contents of a CLIP snapshot's tokenizer files by name."""
    folder = pathlib.Path(name_or_dir)

    # A name that is no folder is one of the hub.
    if not folder.is_dir():
        import huggingface_hub

        try:
            folder = pathlib.Path(
                huggingface_hub.snapshot_download(
                    name_or_dir, allow_patterns=list(TOKENIZER)
                )
            )
        except Exception as e:  # noqa: BLE001 - kinds differ between hub versions
            raise InputError(
                f"--clip {name_or_dir}: no such folder, and the hub didn't return a model "
                f"of this name ({type(e).__name__}); check the name and the network"
            ) from None

    files = {
        n: (folder / n).read_text("utf-8") for n in TOKENIZER if (folder / n).exists()
    }
    if not {"tokenizer.json", "vocab.json"} & files.keys():
        raise InputError(
            f"--clip {name_or_dir}: no tokenizer found; expected vocab.json with "
            "merges.txt, or tokenizer.json"
        )
    return files


def _note_other_graph(meta: dict[str, Any], target: pathlib.Path) -> None:
    """Prints a note if the released code would score an exported file otherwise."""
    fields = (meta.get("config") or {}).get("model") or {}
    graph = fields.get("distance_graph", "released")
    if graph != "released":
        print(
            f"note: the model has distance_graph={graph!r}, which the released code "
            f"doesn't; it would give {target.name} other scores",
            file=sys.stderr,
        )


def export_file(
    config: Any,
    checkpoint: str | os.PathLike,
    target: str | os.PathLike,
    clip: str | None = None,
) -> pathlib.Path:
    """Converts a model folder into a file that the released code loads.

    Args:
      config: recipe of the model.
      checkpoint: model folder, workdir of a training run, or USER/NAME[@REVISION] of
        the Hugging Face hub.
      target: file to write, for PyTorch or .safetensors.
      clip: hub name or folder of the CLIP model that VadCLIP's and DSANet's files
        contain; by default CHECKPOINT/clip.

    Raises:
      InputError: the model or its CLIP model is not found, the model is of another
        recipe, or PyTorch is missing.
    """
    from wsvad_jax.weights.hub_model import load_checkpoint

    name, target = config.model_name, pathlib.Path(target)
    torch_mapping.released_checkpoint(name)
    folder, params, batch_stats, meta = load_checkpoint(checkpoint)
    if meta.get("model") != name:
        raise InputError(
            f"{folder} holds a {meta.get('model')} model, but the recipe is for {name}; "
            "pass the recipe that it was made with"
        )

    _note_other_graph(meta, target)

    # PyTorch is missing in many installations: say so before the work.
    if target.suffix != ".safetensors":
        import_torch(f"writing {target}")

    # Tensors that no forward pass reads were kept for this purpose.
    variables = {"params": params, "batch_stats": batch_stats}
    if (folder / "unused.npz").is_file():
        with np.load(folder / "unused.npz") as file:
            variables["unused"] = torch_mapping.nest(dict(file))

    # Each tensor gets the type that it had in the converted file.
    dtypes = dict(meta.get("torch_dtypes", {}))
    if clip is not None:  # the types were those of another CLIP model
        dtypes = {k: d for k, d in dtypes.items() if "clipmodel." not in k}

    openai = _clip_tensors(name, folder, clip)
    state = torch_mapping.export_state(name, variables, openai)
    check_sizes(config, state, str(folder))

    # Copies of CLIP share their tensors, which are converted once.
    kept = {id(x): x.astype(dtypes.get(k, x.dtype)) for k, x in state.items()}
    write_state(target, {k: kept[id(x)] for k, x in state.items()})
    return target


def _clip_tensors(
    name: str, folder: pathlib.Path, clip: str | None
) -> dict[str, np.ndarray] | None:
    """Returns the CLIP tensors that a file of this model contains, by OpenAI's names."""
    from wsvad_jax.clip import snapshot

    title = torch_mapping.title(name)
    if not torch_mapping.released_checkpoint(name).clip_prefixes:
        if clip is not None:
            raise InputError(
                f"--clip {clip}: files of {title} contain no CLIP model; "
                "leave the flag out"
            )
        return None

    if clip is None and not (folder / "clip" / "config.json").is_file():
        raise InputError(
            f"{folder} has no CLIP model, which the files of {title} "
            "contain; pass the one it was trained with: --clip NAME|DIR"
        )
    return snapshot.flax_to_openai(
        snapshot.load_snapshot(clip or folder / "clip").params
    )
