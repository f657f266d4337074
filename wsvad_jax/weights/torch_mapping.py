"""Translates released PyTorch state dicts to our Flax variables, and back.

Each model has one table of rows (kind, PyTorch module, our module). The kind lists the
module's tensors with their names on both sides. `{…}` is the same text on both sides: a
number `{i}` or one of several names `{a|b}`. `import_state` reads a table from left to
right, `export_state` from right to left, so the round trip loses nothing.

Layout: a linear weight is [out, in] in PyTorch and [in, out] in Flax, a convolution's
[out, in, width] and [width, in, out]. So every leaf named `kernel`, and no other, has
its axes reversed. On both sides, the packed attention weight [3D, D] has q, k and v in
sequence, head by head.

Files of VadCLIP contain the whole CLIP model as well, and those of DSANet twice.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from wsvad_jax.utils.errors import InputError

State = Mapping[str, np.ndarray]

TITLES = {
    "mil_ranking": "MIL ranking",
    "clip_tsa": "CLIP-TSA",
    "vadclip": "VadCLIP",
    "dsanet": "DSANet",
}
# Prefixes of tensors that only one model's files have; the first match counts.
MARKS = {
    "clip_adapter.": "dsanet",
    "video_anomaly_refiner.": "dsanet",
    "text_prompt_embeddings.": "vadclip",
    "hard_attention.": "clip_tsa",
    "Aggregate.": "clip_tsa",
}
CLIP_PREFIXES = {
    "vadclip": ("clipmodel.",),
    "dsanet": ("clipmodel.", "clip_adapter.clipmodel."),
}


# A kind: suffix of the module's name in PyTorch -> our path, with `*` for our module.
LINEAR = {".weight": "params/*/kernel", ".bias": "params/*/bias"}  # or a convolution
NO_BIAS = {".weight": "params/*/kernel"}
PACKED = {"_weight": "params/*/kernel", "_bias": "params/*/bias"}
NORM = {".weight": "params/*/scale", ".bias": "params/*/bias"}
BATCH_NORM = {
    **NORM,
    ".running_mean": "batch_stats/*/mean",
    ".running_var": "batch_stats/*/var",
    ".num_batches_tracked": "unused/*/num_batches_tracked",
}
TABLE = {".weight": "params/*"}
TENSOR = {"": "params/*"}
UNUSED = {".weight": "unused/*/kernel", ".bias": "unused/*/bias"}

_BLOCK = "encoder/temporal_resblocks_{i}"
_ENCODER_AND_HEADS = [
    (NORM, "temporal.resblocks.{i}.{ln_1|ln_2}", _BLOCK + "/{ln_1|ln_2}"),
    (PACKED, "temporal.resblocks.{i}.attn.in_proj", _BLOCK + "/attn_in_proj"),
    (LINEAR, "temporal.resblocks.{i}.attn.out_proj", _BLOCK + "/attn_out_proj"),
    (LINEAR, "temporal.resblocks.{i}.mlp.{c_fc|c_proj}", _BLOCK + "/mlp/{c_fc|c_proj}"),
    (TENSOR, "gc{i}.weight", "encoder/gc{i}/weight"),
    (LINEAR, "gc{i}.residual", "encoder/gc{i}/residual"),
    (TENSOR, "disAdj.sigma", "encoder/disAdj_sigma"),
    (LINEAR, "linear", "encoder/linear"),
    (TABLE, "frame_position_embeddings", "encoder/frame_position_embeddings"),
    (LINEAR, "mlp1.{c_fc|c_proj}", "align_branch/mlp1/{c_fc|c_proj}"),
    (LINEAR, "mlp2.{c_fc|c_proj}", "classifier_branch/mlp2/{c_fc|c_proj}"),
    (LINEAR, "classifier", "classifier_branch/classifier"),
]
_VADCLIP = [
    *_ENCODER_AND_HEADS,
    (TABLE, "text_prompt_embeddings", "prompt_learner/text_prompt_embeddings"),
]
_STACK = "{dnp_extractor|decoder}"
_NORMALITY = [
    (TENSOR, "video_prototypes", "video_prototypes"),
    (LINEAR, "bottleneck.{c_fc|c_proj}", "bottleneck/{c_fc|c_proj}"),
    (NORM, _STACK + ".{i}.{norm1|norm2}", _STACK + "_{i}/{norm1|norm2}"),
    (LINEAR, _STACK + ".{i}.attn.{q|kv|proj}", _STACK + "_{i}/attn/{q|kv|proj}"),
    (TENSOR, _STACK + ".{i}.attn.learn_scale", _STACK + "_{i}/attn/learn_scale"),
    (LINEAR, _STACK + ".{i}.mlp.{fc1|fc2}", _STACK + "_{i}/mlp/{fc1|fc2}"),
]
_DSANET = [
    *_ENCODER_AND_HEADS,
    (
        NO_BIAS,
        "clip_adapter.text_adapter.{i}.fc.0",
        "clip_adapter/text_adapter_{i}_fc_0",
    ),
    # The ablation without the text adapter learns VadCLIP's prompts instead.
    (TABLE, "text_prompt_embeddings", "clip_adapter/text_prompt_embeddings"),
    *(
        (kind, f"video_anomaly_refiner.{theirs}", f"video_anomaly_refiner/{ours}")
        for kind, theirs, ours in _NORMALITY
    ),
]
_CLIP_TSA = [
    (LINEAR, "hard_attention.scorer.{fc1|fc2}", "hard_attention_scorer_{fc1|fc2}"),
    (LINEAR, "Aggregate.conv_{1|2|3}.0", "Aggregate_conv_{1|2|3}_0"),
    (NO_BIAS, "Aggregate.conv_{4|5}.0", "Aggregate_conv_{4|5}_0"),
    (BATCH_NORM, "Aggregate.conv_{1|2|3|5}.2", "Aggregate_conv_{1|2|3|5}_2"),
    (LINEAR, "Aggregate.non_local.{g|theta|phi}", "Aggregate_non_local_{g|theta|phi}"),
    (LINEAR, "Aggregate.non_local.W.0", "Aggregate_non_local_W_0"),
    (BATCH_NORM, "Aggregate.non_local.W.1", "Aggregate_non_local_W_1"),
    (LINEAR, "{fc1|fc2|fc3}", "{fc1|fc2|fc3}"),
]
_MIL_RANKING = [(LINEAR, "{fc1|fc2|fc3}", "{fc1|fc2|fc3}")]
# Every file of CLIP-TSA has the layers for wide features, even if they are unused.
_WIDE = [(LINEAR, "mlp.{fc1|fc2}", "mlp_{fc1|fc2}")]
_NARROW = [(UNUSED, "mlp.{fc1|fc2}", "mlp_{fc1|fc2}")]
TABLES = {
    "mil_ranking": _MIL_RANKING,
    "clip_tsa": _CLIP_TSA + _NARROW,
    "clip_tsa, wide features": _CLIP_TSA + _WIDE,
    "vadclip": _VADCLIP,
    "dsanet": _DSANET,
}
# Names of MIL ranking's layers as an nn.Sequential.
_SEQUENTIAL = {"0": "fc1", "3": "fc2", "6": "fc3"}


@dataclasses.dataclass(frozen=True)
class Rule:
    """Templates of a tensor's name in PyTorch and its path in our variables."""

    theirs: str
    ours: str

    def path(self, name: str) -> str | None:
        """`collection/path` of a PyTorch tensor, None if the rule doesn't match."""
        return _translate(name, self.theirs, self.ours)

    def name(self, path: str) -> str | None:
        """PyTorch name of `collection/path`, None if the rule doesn't match."""
        return _translate(path, self.ours, self.theirs)


def rules(table: str) -> list[Rule]:
    """Returns the rules of a table, one per row and tensor of its kind."""
    return [
        Rule(theirs + suffix, place.replace("*", ours))
        for kind, theirs, ours in TABLES[table]
        for suffix, place in kind.items()
    ]


def _translate(text: str, source: str, target: str) -> str | None:
    match = _pattern(source).fullmatch(text)
    if match is None:
        return None
    groups = iter(match.groups())
    return re.sub(r"\{[^}]*\}", lambda _: next(groups), target)


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    literal, *rest = re.split(r"\{([^}]*)\}", template)
    parts = [re.escape(literal)]
    for group, literal in zip(rest[::2], rest[1::2], strict=True):
        parts += [r"(\d+)" if group == "i" else f"({group})", re.escape(literal)]
    return re.compile("".join(parts))


def _only(found: list[str | None], text: str) -> str | None:
    matches = [x for x in found if x is not None]
    assert len(matches) <= 1, f"{text}: matched by {len(matches)} rules"
    return matches[0] if matches else None


def identify(state: State) -> str | None:
    """Returns the model of a checkpoint, recognised by tensors that no other has."""
    for mark, model in MARKS.items():
        if any(name.startswith(mark) for name in state):
            return model
    modules = {name.rpartition(".")[0] for name in state}
    if modules in ({"fc1", "fc2", "fc3"}, set(_SEQUENTIAL)):
        return "mil_ranking"
    return None


def check_model(
    model_name: str, state: State, source: str, *, adapter: bool = True
) -> None:
    """Raises InputError if a state dict belongs to another model."""
    found = identify(state)
    # DSANet without its text adapter has VadCLIP's prompts, under the same name.
    ablated = (found, model_name, adapter) == ("vadclip", "dsanet", False)
    if found in (None, model_name) or ablated:
        return
    raise InputError(
        f"{source}: this is a {TITLES[found]} checkpoint, expected one of "
        f"{TITLES[model_name]}; pass the config of {TITLES[found]}"
    )


def import_state(
    model_name: str,
    state: State,
    expected: Mapping[str, Any] | None = None,
    source: str = "the state dict",
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Converts a PyTorch state dict to our variables.

    Args:
      model_name: key of `TITLES`.
      state: tensors by PyTorch name.
      expected: `params` and `batch_stats` of the model, as arrays or shapes. If given,
        missing, additional and misshapen tensors are errors.
      source: name of the state dict in errors.

    Returns:
      The variables `params`, `batch_stats` and `unused` (tensors that no forward pass
      reads, kept for export); and CLIP's tensors by OpenAI's names, if there are any.

    Raises:
      InputError: the state dict belongs to another model, or has unknown, missing or
        misshapen tensors; all of them are listed.
    """
    wanted = None if expected is None else flatten(expected)
    prompts = "params/clip_adapter/text_prompt_embeddings"
    # A foreign state dict gets one sentence instead of a list of all its tensors.
    check_model(model_name, state, source, adapter=prompts not in (wanted or ()))

    problems = {key: [] for key in ("unknown", "missing", "misshapen", "unequal")}
    # CLIP is frozen and not part of our variables.
    state, clip = _split_clip(model_name, state, problems)
    if model_name == "mil_ranking":
        state = {_name_layers(name): array for name, array in state.items()}

    table = _rules_of(model_name, _is_wide(state) or _is_wide(wanted))
    flat = {}
    for name, array in state.items():
        path = _only([rule.path(name) for rule in table], name)
        if path is None:
            problems["unknown"].append(f"{name} {list(array.shape)}")
        else:
            flat[path] = _reverse(path, array)

    if wanted is not None:
        _compare(flat, wanted, table, problems)
    if any(problems.values()):
        listed = "; ".join(f"{k} {', '.join(v)}" for k, v in problems.items() if v)
        raise InputError(
            f"{source} doesn't fit {TITLES[model_name]} with this config: {listed}"
        )
    return {"params": {}, "batch_stats": {}, "unused": {}, **nest(flat)}, clip


def export_state(
    model_name: str, variables: Mapping[str, Any], clip: State | None = None
) -> dict[str, np.ndarray]:
    """Converts our variables to the state dict that the released code loads.

    Args:
      model_name: key of `TITLES`.
      variables: `params`, and `batch_stats` and `unused` if there are any.
      clip: CLIP's tensors by OpenAI's names, for files that contain them.

    Raises:
      InputError: the model has no counterpart of a variable.
    """
    flat = flatten(variables)
    wide = _is_wide(flat)
    table = _rules_of(model_name, wide)
    # The released code refuses a file without its unused tensors.
    if model_name == "clip_tsa":
        flat = {**_unused_defaults(flat, wide), **flat}
    names = {path: _only([rule.name(path) for rule in table], path) for path in flat}
    if unknown := [path for path, name in names.items() if name is None]:
        raise InputError(
            f"the checkpoint is not one of {TITLES[model_name]}, which has no "
            f"{', '.join(unknown)}"
        )
    state = {str(names[path]): _reverse(path, leaf) for path, leaf in flat.items()}
    if clip:
        for prefix in CLIP_PREFIXES.get(model_name, ()):
            state |= {prefix + name: np.asarray(leaf) for name, leaf in clip.items()}
    return state


def _rules_of(model_name: str, wide: bool) -> list[Rule]:
    return rules("clip_tsa, wide features" if wide else model_name)


def _is_wide(flat: Mapping[str, Any] | None) -> bool:
    """Whether a state dict or variables belong to CLIP-TSA for features beyond 512."""
    entry = (flat or {}).get("mlp.fc1.weight")
    return "params/mlp_fc1/kernel" in (flat or {}) or (
        entry is not None and entry.shape[-1] > 512
    )


def _unused_defaults(flat: Mapping[str, Any], wide: bool) -> dict[str, np.ndarray]:
    """Zeros for the tensors that CLIP-TSA's code expects in a file and doesn't use."""
    found: dict[str, np.ndarray] = {
        f"unused/{path.split('/')[1]}/num_batches_tracked": np.zeros((), np.int64)
        for path in flat
        if path.endswith("/mean")
    }
    last = flat.get("params/Aggregate_conv_5_0/kernel")
    if not wide and last is not None:
        D = last.shape[-1]
        for name, (fan_in, out) in {"fc1": (D, 1024), "fc2": (1024, D)}.items():
            found[f"unused/mlp_{name}/kernel"] = np.zeros((fan_in, out), np.float32)
            found[f"unused/mlp_{name}/bias"] = np.zeros(out, np.float32)
    return found


def _name_layers(name: str) -> str:
    module, dot, leaf = name.rpartition(".")
    return _SEQUENTIAL.get(module, module) + dot + leaf


def _reverse(path: str, array: Any) -> np.ndarray:
    array = np.asarray(array)
    return np.ascontiguousarray(array.T) if path.endswith("/kernel") else array


def _split_clip(
    model_name: str, state: State, problems: dict[str, list[str]]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Separates the model's tensors from CLIP's, whose copies must be equal."""
    prefixes = CLIP_PREFIXES.get(model_name, ())
    own = {n: x for n, x in state.items() if not n.startswith(prefixes)}
    copies = [
        {n.removeprefix(p): x for n, x in state.items() if n.startswith(p)}
        for p in prefixes
    ]
    clip = copies[0] if copies else {}
    # Differing copies would leave it open which of them the model uses.
    for prefix, copy in zip(prefixes[1:], copies[1:], strict=True):
        problems["missing"] += [f"{prefix}{n}" for n in clip if n not in copy]
        problems["missing"] += [f"{prefixes[0]}{n}" for n in copy if n not in clip]
        problems["unequal"] += [
            f"{prefix}{name} and {prefixes[0]}{name}"
            for name in clip.keys() & copy.keys()
            if not np.array_equal(clip[name], copy[name], equal_nan=True)
        ]
    return own, clip


def _compare(
    flat: Mapping[str, Any],
    wanted: Mapping[str, Any],
    table: list[Rule],
    problems: dict[str, list[str]],
) -> None:
    """Lists the differences from the model, in PyTorch's names and layout."""

    def describe(path, leaf):
        name = _only([rule.name(path) for rule in table], path) or path
        return name, list(_shape(path, leaf))

    for path, leaf in flat.items():
        name, shape = describe(path, leaf)
        if path not in wanted:
            if not path.startswith("unused/"):
                problems["unknown"].append(f"{name} {shape}")
        elif (want := describe(path, wanted[path])[1]) != shape:
            problems["misshapen"].append(f"{name} {shape}, expected {want}")
    for path in wanted.keys() - flat.keys():
        name, shape = describe(path, wanted[path])
        problems["missing"].append(f"{name} {shape}")


def _shape(path: str, leaf: Any) -> tuple[int, ...]:
    return leaf.shape[::-1] if path.endswith("/kernel") else leaf.shape


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested dicts by path."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}/")
        else:
            flat[prefix + key] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the nested dicts of leaves by path, the inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree
