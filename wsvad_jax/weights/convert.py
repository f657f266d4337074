"""Converts released PyTorch checkpoints into model folders, and back."""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from wsvad_jax.utils.errors import InputError
from wsvad_jax.weights import torch_mapping
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
      config: the recipe of the model that the file holds.
      source: a file that `read_state` reads.
      output: the model folder to write; an older one there is replaced.
      tokenizer: hub name or folder of a CLIP snapshot whose tokenizer joins the CLIP
        weights that the file has, since a checkpoint has no tokenizer.

    Raises:
      InputError: as `read_state`, `check_sizes` and `weights.import_state`.
    """
    from wsvad_jax.clip import snapshot
    from wsvad_jax.weights.model_folder import save_params

    source, output = pathlib.Path(source), pathlib.Path(output)
    _check_output(output)
    name = config.model_name
    torch_mapping.released_checkpoint(name)  # raises for a model that has none
    state = read_state(source)
    torch_mapping.check_model(name, state, str(source), config.model)
    check_sizes(config, state, str(source))
    expected = expected_variables(config, state)
    variables, clip = torch_mapping.import_state(name, state, expected, str(source))
    if tokenizer and not clip:
        raise InputError(
            f"--clip {tokenizer}: {source} contains no CLIP model that a tokenizer could "
            "join; leave the flag out"
        )
    clip_params = _within(source, snapshot.openai_to_flax, clip) if clip else None
    files = _tokenizer_files(tokenizer) if tokenizer and clip else {}

    params, batch_stats = (_float32(variables[k]) for k in ("params", "batch_stats"))
    output.parent.mkdir(parents=True, exist_ok=True)
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

    # The classes are not in the weights; a dataset's card has them.
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
        # So that the way back gives the file's own types.
        "torch_dtypes": {
            k: x.dtype.name for k, x in state.items() if x.dtype != np.float32
        },
    }


def _check_output(output: pathlib.Path) -> None:
    """Raises InputError rather than let a folder of something else be replaced."""
    model = (output / "meta.json").is_file()
    if output.exists() and not model and any(output.iterdir()):
        raise InputError(
            f"{output} is not empty and holds no model (no meta.json); pass a new "
            "folder, or delete it"
        )


def _replace(work: pathlib.Path, output: pathlib.Path) -> None:
    """Moves a model into place: without its meta.json, which is last, it is none."""
    output.mkdir(exist_ok=True)
    for name in ("meta.json", "unused.npz"):
        (output / name).unlink(missing_ok=True)
    for name in ("clip", "params"):
        shutil.rmtree(output / name, ignore_errors=True)
    for name in ("clip", "unused.npz", "params", "meta.json"):
        if (work / name).exists():
            (work / name).rename(output / name)


def _within(source: pathlib.Path, function: Callable, *args: Any) -> Any:
    """Calls `function`; its errors then begin with the file's name."""
    try:
        return function(*args)
    except InputError as e:
        raise InputError(f"{source}: {e}") from None


def _float32(tree: Mapping[str, Any]) -> dict[str, Any]:
    flat = torch_mapping.flatten(tree)
    return torch_mapping.nest({k: np.asarray(x, np.float32) for k, x in flat.items()})


def _tokenizer_files(name_or_dir: str) -> dict[str, str]:
    """The tokenizer's files of a CLIP snapshot, by name."""
    folder = pathlib.Path(name_or_dir)
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
                f"--clip {name_or_dir}: neither a folder nor a model that the hub gives "
                f"({type(e).__name__})"
            ) from None
    files = {
        n: (folder / n).read_text("utf-8") for n in TOKENIZER if (folder / n).exists()
    }
    if not {"tokenizer.json", "vocab.json"} & files.keys():
        raise InputError(
            f"--clip {name_or_dir}: no tokenizer there; expected vocab.json with "
            "merges.txt, or tokenizer.json"
        )
    return files


def export_file(
    config: Any,
    checkpoint: str | os.PathLike,
    target: str | os.PathLike,
    clip: str | None = None,
) -> pathlib.Path:
    """Converts a model folder into a file that the released code loads.

    Args:
      config: the recipe of the model.
      checkpoint: a model folder, or a workdir of training with one in it.
      target: the file to write, for PyTorch or .safetensors.
      clip: hub name or folder of the CLIP model that VadCLIP's and DSANet's files
        contain; CHECKPOINT/clip where there is one.

    Raises:
      InputError: no such model, another recipe's, no CLIP model, PyTorch is missing.
    """
    from wsvad_jax.weights.model_folder import load_params

    folder, target = pathlib.Path(checkpoint), pathlib.Path(target)
    if not (folder / "meta.json").exists() and (folder / "model").is_dir():
        folder = folder / "model"
    name = config.model_name
    torch_mapping.released_checkpoint(name)
    params, batch_stats, meta = load_params(folder)
    if meta.get("model") != name:
        raise InputError(
            f"{folder} holds a {meta.get('model')} model, but the recipe is for {name}; "
            "pass the recipe that it was made with"
        )
    if target.suffix != ".safetensors":
        import_torch(f"writing {target}")
    variables = {"params": params, "batch_stats": batch_stats}
    if (folder / "unused.npz").is_file():
        with np.load(folder / "unused.npz") as file:
            variables["unused"] = torch_mapping.nest(dict(file))
    dtypes = dict(meta.get("torch_dtypes", {}))
    if clip is not None:  # another CLIP than the one that was converted
        dtypes = {k: d for k, d in dtypes.items() if "clipmodel." not in k}
    openai = _clip_tensors(name, folder, clip)
    state = torch_mapping.export_state(name, variables, openai)
    check_sizes(config, state, str(folder))
    kept = {id(x): x.astype(dtypes.get(k, x.dtype)) for k, x in state.items()}
    write_state(target, {k: kept[id(x)] for k, x in state.items()})
    return target


def _clip_tensors(
    name: str, folder: pathlib.Path, clip: str | None
) -> dict[str, np.ndarray] | None:
    """The CLIP model that a file of this model contains, by OpenAI's names."""
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
