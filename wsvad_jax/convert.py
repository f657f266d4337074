"""Program: released PyTorch checkpoints into our model folders, and back.

`check_sizes` and `expected_variables` hold a state dict against a recipe; `import_file`
and `export_file` are the two directions. The rules are in weights.py, the files in
torch_files.py.
"""

import argparse
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from wsvad_jax import cli, weights
from wsvad_jax.errors import InputError
from wsvad_jax.files import atomic_path
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
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)

# (what, field of the model, tensors that are counted, tensors beyond the field)
COUNTED = (
    ("temporal blocks", "visual_layers", r"temporal\.resblocks\.\d+\.ln_1\.weight", 0),
    # The last adapter replaces the tower's projection.
    ("text adapters", "text_adapt_until", r".*\.text_adapter\.\d+\.fc\.0\.weight", 1),
    ("decoder blocks", "decoder_layers", r".*\.decoder\.\d+\.norm1\.weight", 0),
)
# (what, field of the model, tensor whose first axis has that size)
REFINER = "video_anomaly_refiner."
MEASURED = (
    ("prototypes", "prototypes", REFINER + "video_prototypes"),
    ("decoder heads", "decoder_heads", REFINER + "decoder.0.attn.learn_scale"),
)
# (what, field of the model that switches it, tensors that are there if it is on)
SWITCHED = (
    ("attention in windows", "use_local", "temporal."),
    ("graph convolution", "use_graph", "gc1."),
    ("C-branch", "classify", "classifier."),
    ("A-branch", "align", "mlp1."),
    ("learned prompt", "learn_prompt", "text_prompt_embeddings."),
    ("text adapter", "adapter", "clip_adapter.text_adapter."),
    ("SG-NM", "sgnm", REFINER),
    ("temporal attention", "attention", "hard_attention."),
)
# Temporal blocks tell the two public checkpoints of VadCLIP and of DSANet apart.
PUBLIC = {2: ("ucf", "UCF-Crime"), 1: ("xd", "XD-Violence")}


def check_sizes(config: Any, state: Mapping[str, np.ndarray], source: str) -> None:
    """Holds the sizes that a state dict shows against the recipe's.

    The attention window and the classes are not in the weights: any classes go with
    them, and any window that divides the snippets.

    Raises:
      InputError: they differ; every difference is named.
    """
    from wsvad_jax.recipe import build_model

    fields = vars(build_model(config))
    found = [
        f"its {what} is {'missing' if fields[field] else 'there'}, but "
        f"config.model.{field} is {fields[field]}"
        for what, field, mark in SWITCHED
        if field in fields and fields[field] != any(n.startswith(mark) for n in state)
    ]
    sizes = {
        (what, field): _count(state, pattern) - beyond
        for what, field, pattern, beyond in COUNTED
    }
    sizes |= {(what, field): _size(state, name) for what, field, name in MEASURED}
    found += [
        f"it has {size} {what}, but config.model.{field} is {fields[field]}"
        for (what, field), size in sizes.items()
        if field in fields and size > 0 and size != fields[field]
    ]
    T = _size(state, "frame_position_embeddings.weight")
    length, window = config.data.length, fields.get("attn_window", 1)
    if T > 0 and length and T != length:
        found.append(
            f"its windows are {T} snippets, but config.data.length is {length}"
        )
    elif T > 0 and T % window:
        found.append(
            f"its windows are {T} snippets, which config.model.attn_window {window} "
            "doesn't divide"
        )
    if found:
        raise InputError(
            f"{source} doesn't fit the recipe: {'; '.join(found)}"
            f"{_public(config, state)}"
        )


def _model_name(config: Any) -> str:
    if config.model_name in weights.TITLES:
        return config.model_name
    raise InputError(
        f"model_name is {config.model_name!r}; the models are "
        f"{', '.join(weights.TITLES)}"
    )


def _public(config: Any, state: Mapping[str, np.ndarray]) -> str:
    """Names the public dataset that a checkpoint of other sizes is of."""
    known = PUBLIC.get(_count(state, COUNTED[0][2]))
    if known is None or known[0] == config.data.name:
        return ""
    return (
        f"; these are the sizes of the checkpoint for {known[1]}: pass "
        f"--config configs/{config.model_name}.py:{known[0]}"
    )


def _count(state: Mapping[str, np.ndarray], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in state)


def _size(state: Mapping[str, np.ndarray], name: str, axis: int = 0) -> int:
    """An axis of a tensor, 0 where it isn't there."""
    array = state.get(name)
    return array.shape[axis] if array is not None and array.ndim > axis else 0


def expected_variables(config: Any, state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the shapes of the recipe's variables, at a state dict's own T and D."""
    import jax
    import jax.numpy as jnp

    from wsvad_jax.recipe import build_model

    model, own = build_model(config), config.model_name
    T = _size(state, "frame_position_embeddings.weight") or config.data.length
    T = T or vars(model).get("attn_window", 32)
    entry = {"mil_ranking": "fc1.weight", "clip_tsa": "mlp.fc1.weight"}
    D = _size(state, entry.get(own, "frame_position_embeddings.weight"), 1) or 512

    def init():
        rngs = {name: jax.random.key(0) for name in ("params", "dropout", "noise")}
        text = _stand_in_text(state, D) if own in weights.CLIP_PREFIXES else None
        features, length = jnp.zeros((2, 1, T, D)), jnp.full(2, T)
        return model.init(rngs, features, length, text, train=True)

    return jax.eval_shape(init)


def _stand_in_text(state: Mapping[str, np.ndarray], D: int) -> Any:
    """Prompts and a text tower of the width and depth that the state dict asks for."""
    import jax
    import jax.numpy as jnp

    from wsvad_jax.clip.prompts import TextInputs
    from wsvad_jax.clip.towers import CLIPText, TextConfig

    positions = _size(state, "text_prompt_embeddings.weight") or 77
    width = _size(state, "text_prompt_embeddings.weight", 1)
    width = width or _size(state, "clip_adapter.text_adapter.0.fc.0.weight", 1) or D
    layers = max(_count(state, COUNTED[1][2]), 1)
    config = TextConfig(2, width, width, layers, 1, positions, D, eos_token_id=1)
    tokens = jnp.zeros((2, 2), jnp.int32)
    params = dict(CLIPText(config).init(jax.random.key(0), tokens))
    params = {
        "text_model": params["params"],
        "text_projection": {"kernel": jnp.zeros((width, D))},
    }
    return TextInputs(tokens, jnp.ones(2, jnp.int32), jnp.eye(2), params, config)


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
    name, state = _model_name(config), read_state(source)
    adapter = config.model.get("adapter", True)
    weights.check_model(name, state, str(source), adapter=adapter)
    check_sizes(config, state, str(source))
    expected = expected_variables(config, state)
    variables, clip = weights.import_state(name, state, expected, str(source))
    clip_params = _within(source, load.openai_to_flax, clip) if clip else None
    files = _tokenizer_files(tokenizer) if tokenizer and clip else {}

    shutil.rmtree(output / "clip", ignore_errors=True)
    (output / "unused.npz").unlink(missing_ok=True)
    if clip_params:
        text, vision = load.openai_configs(clip)
        load.save_snapshot(output / "clip", text, vision, clip_params, tokenizer=files)
    if unused := weights.flatten(variables["unused"]):
        with atomic_path(output / "unused.npz") as temporary:
            np.savez(temporary, **unused)
    save_params(
        output,
        _float32(variables["params"]),
        _float32(variables["batch_stats"]),
        {
            "model": name,
            "dataset": config.data.name,
            "step": None,
            "selection": "converted",
            "checkpoint": source.name,
            "config": config.to_dict(),
            # So that the way back gives the file's own types.
            "torch_dtypes": {
                k: x.dtype.name for k, x in state.items() if x.dtype != np.float32
            },
        },
    )
    return output


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
    from wsvad_jax.clip import load

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
    openai, dtypes = None, dict(meta.get("torch_dtypes", {}))
    if prefixes := weights.CLIP_PREFIXES.get(name):
        if clip is not None:  # whose tensors are not those that were converted
            dtypes = {k: d for k, d in dtypes.items() if not k.startswith(prefixes)}
        elif not (folder / "clip" / "config.json").is_file():
            raise InputError(
                f"{folder} has no CLIP model, which the files of {weights.TITLES[name]} "
                "contain; pass the one it was trained with: --clip NAME|DIR"
            )
        openai = load.flax_to_openai(load.load(clip or folder / "clip").params)
    state = weights.export_state(name, variables, openai)
    check_sizes(config, state, str(folder))
    kept = {id(x): x.astype(dtypes.get(k, x.dtype)) for k, x in state.items()}
    write_state(target, {k: kept[id(x)] for k, x in state.items()})
    return target


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
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
    config = cli.load_config([f"--config={known.config}", *rest])
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
