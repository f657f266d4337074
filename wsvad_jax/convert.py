"""Program: released PyTorch checkpoints into our model folders, and back.

`import_file` and `export_file` are the two directions. The names are matched in
weights.py, the sizes held against the recipe in sizes.py, the files read and written in
torch_files.py.
"""

import argparse
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from wsvad_jax import cli, flags, weights
from wsvad_jax.errors import InputError
from wsvad_jax.sizes import check_sizes, expected_variables, lengths
from wsvad_jax.torch_files import import_torch, read_state, write_state

HELP = """\
Converts checkpoints of the released PyTorch code into model folders, and back.

inputs   --torch FILE: a state dict (.pth, .pt, .pkl, .safetensors), alone or inside a
         training checkpoint; it is read as weights only, nothing in it is run
outputs  --output DIR: params/ and meta.json, which `evaluate --checkpoint DIR` takes,
         and clip/, the CLIP model that VadCLIP's and DSANet's files contain
back     --checkpoint DIR to --to_torch FILE (.safetensors by its name)
"""
EXAMPLES = """\
examples
  python -m wsvad_jax.convert --config configs/vadclip.py:ucf --torch model_ucf.pth \\
      --output vadclip_ucf --clip openai/clip-vit-base-patch16
  python -m wsvad_jax.evaluate --config configs/vadclip.py:ucf \\
      --config.clip=vadclip_ucf/clip --checkpoint vadclip_ucf --workdir runs/released
  python -m wsvad_jax.convert --config configs/vadclip.py:ucf \\
      --checkpoint runs/vadclip-ucf-0/model --to_torch mine.pth
"""
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
    from wsvad_jax.checkpoint import save_params
    from wsvad_jax.clip import load

    source, output = pathlib.Path(source), pathlib.Path(output)
    _check_output(output)
    name, state = _model_name(config), read_state(source)
    adapter = config.model.get("adapter", True)
    weights.check_model(name, state, str(source), adapter=adapter)
    check_sizes(config, state, str(source))
    expected = expected_variables(config, state)
    variables, clip = weights.import_state(name, state, expected, str(source))
    if tokenizer and not clip:
        raise InputError(
            f"--clip {tokenizer}: {source} contains no CLIP model that a tokenizer could "
            "join; leave the flag out"
        )
    clip_params = _within(source, load.openai_to_flax, clip) if clip else None
    files = _tokenizer_files(tokenizer) if tokenizer and clip else {}

    params, batch_stats = (_float32(variables[k]) for k in ("params", "batch_stats"))
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".convert-") as made:
        work = pathlib.Path(made)
        if clip_params:
            sizes = load.openai_configs(clip)
            load.save_snapshot(work / "clip", *sizes, clip_params, tokenizer=files)
        if unused := weights.flatten(variables["unused"]):
            np.savez(work / "unused.npz", **unused)
        save_params(work, params, batch_stats, _meta(config, state, source))
        _replace(work, output)
    return output


def _meta(
    config: Any, state: Mapping[str, np.ndarray], source: pathlib.Path
) -> dict[str, Any]:
    from wsvad_jax.data import catalog

    # The classes are not in the weights; a dataset's card has them.
    card = catalog.card_of(config.data.name)
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


def _model_name(config: Any) -> str:
    if config.model_name in weights.TITLES:
        return config.model_name
    raise InputError(
        f"model_name is {config.model_name!r}; the models are "
        f"{', '.join(weights.TITLES)}"
    )


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
    flat = weights.flatten(tree)
    return weights.nest({k: np.asarray(x, np.float32) for k, x in flat.items()})


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
    from wsvad_jax.checkpoint import load_params

    folder, target = pathlib.Path(checkpoint), pathlib.Path(target)
    if not (folder / "meta.json").exists() and (folder / "model").is_dir():
        folder = folder / "model"
    name = _model_name(config)
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
            variables["unused"] = weights.nest(dict(file))
    dtypes = dict(meta.get("torch_dtypes", {}))
    if clip is not None:  # another CLIP than the one that was converted
        dtypes = {k: d for k, d in dtypes.items() if "clipmodel." not in k}
    openai = _clip_tensors(name, folder, clip)
    state = weights.export_state(name, variables, openai)
    check_sizes(config, state, str(folder))
    kept = {id(x): x.astype(dtypes.get(k, x.dtype)) for k, x in state.items()}
    write_state(target, {k: kept[id(x)] for k, x in state.items()})
    return target


def _clip_tensors(
    name: str, folder: pathlib.Path, clip: str | None
) -> dict[str, np.ndarray] | None:
    """The CLIP model that a file of this model contains, by OpenAI's names."""
    from wsvad_jax.clip import load

    if name not in weights.CLIP_PREFIXES:
        if clip is not None:
            raise InputError(
                f"--clip {clip}: files of {weights.TITLES[name]} contain no CLIP model; "
                "leave the flag out"
            )
        return None
    if clip is None and not (folder / "clip" / "config.json").is_file():
        raise InputError(
            f"{folder} has no CLIP model, which the files of {weights.TITLES[name]} "
            "contain; pass the one it was trained with: --clip NAME|DIR"
        )
    return load.flax_to_openai(load.load(clip or folder / "clip").params)


def main(argv: Sequence[str] | None = None) -> int:
    parser = flags.Parser(
        prog="python -m wsvad_jax.convert",
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config", help="a recipe, FILE[:DATASET]", required=True)
    add("--torch", metavar="FILE", help="a released checkpoint")
    add("--output", metavar="DIR", help="the model folder to write")
    add("--checkpoint", metavar="DIR", help="a model folder, or a workdir")
    add("--to_torch", metavar="FILE", help="the file to write")
    add("--clip", metavar="NAME|DIR", help="a CLIP snapshot: its tokenizer joins the "
        "CLIP weights of --torch; or all of it goes into --to_torch")  # fmt: skip
    known, rest = parser.parse_known_args(argv)
    forth, back = (known.torch, known.output), (known.checkpoint, known.to_torch)
    if not (all(forth) and not any(back)) and not (all(back) and not any(forth)):
        parser.error(
            "pass --torch FILE --output DIR, or --checkpoint DIR --to_torch FILE"
        )
    config = cli.load_config(
        [f"--config={known.config}", *rest], flags=flags.options(parser)
    )
    if known.to_torch:
        print(export_file(config, known.checkpoint, known.to_torch, known.clip))
        return 0
    output = import_file(config, known.torch, known.output, known.clip)
    print(f"{output}: a {weights.TITLES[str(config.model_name)]} model for `evaluate`")
    clip = output / "clip"
    if clip.is_dir():
        print(f"{clip}: the CLIP weights of the file; pass --config.clip={clip}")
    if clip.is_dir() and not any((clip / n).exists() for n in TOKENIZER):
        print(
            f"{clip} has no tokenizer yet, since checkpoints contain none: copy "
            "vocab.json and merges.txt of any OpenAI CLIP there, or convert again with "
            "--clip openai/clip-vit-base-patch16"
        )
    return 0


if __name__ == "__main__":
    cli.run(main)
