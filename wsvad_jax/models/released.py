"""Tensors of the released PyTorch checkpoints, and their names in our models, as data.

Each row is (kind, PyTorch module, our module). The kind lists the module's tensors with
their names on both sides. `{…}` is the same text on both sides: a number `{i}` or one of
several names `{a|b}`. `weights.torch_mapping` reads the rows in both directions.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Row = tuple[Mapping[str, str], str, str]

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


@dataclasses.dataclass(frozen=True)
class Resemblance:
    """A model whose files look alike if a switch of this model is off."""

    model: str
    switch: str
    leaf: str  # the path of our variable that exists only then


@dataclasses.dataclass(frozen=True, eq=False)
class ReleasedCheckpoint:
    """Content of a model's released PyTorch files.

    Args:
      rows: names of the tensors on both sides.
      width_tensor: name of the tensor whose axis 1 is the width D of the features.
      length_tensor: name of the tensor whose axis 0 is the window length T, if any.
      marks: prefixes of tensors by which a file is recognised.
      module_sets: sets of module names; a file with exactly one of them is recognised.
      aliases: module name in some files → its name in `rows`.
      resembles: other model whose files this model's can look like.
      rows_for: function (tensors or variables by name) → further rows.
      unused_tensors: function (variables by path) → tensors that the released code
        expects in a file and doesn't read.
      clip_prefixes: prefixes under which a file contains the CLIP model, in equal
        copies.
      switches: (part, field, prefix of the tensors that exist if the field is true).
      counts: (part, field, pattern of the counted tensors, count minus field).
      sizes: (part, field, tensor whose axis 0 has that size).
      public: number of the first of `counts` → dataset of a public checkpoint, as key
        of the registry and in words.
    """

    rows: Sequence[Row]
    width_tensor: str
    length_tensor: str | None = None
    marks: tuple[str, ...] = ()
    module_sets: Sequence[frozenset[str]] = ()
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    resembles: Resemblance | None = None
    rows_for: Callable[[Mapping[str, Any]], Sequence[Row]] | None = None
    unused_tensors: Callable[[Mapping[str, Any]], dict[str, np.ndarray]] | None = None
    clip_prefixes: tuple[str, ...] = ()
    switches: Sequence[tuple[str, str, str]] = ()
    counts: Sequence[tuple[str, str, str, int]] = ()
    sizes: Sequence[tuple[str, str, str]] = ()
    public: Mapping[int, tuple[str, str]] = dataclasses.field(default_factory=dict)


MIL_RANKING = ReleasedCheckpoint(
    rows=[(LINEAR, "{fc1|fc2|fc3}", "{fc1|fc2|fc3}")],
    width_tensor="fc1.weight",
    module_sets=[frozenset({"fc1", "fc2", "fc3"}), frozenset({"0", "3", "6"})],
    aliases={"0": "fc1", "3": "fc2", "6": "fc3"},  # layers of an nn.Sequential
)


def _is_wide(tensors: Mapping[str, Any]) -> bool:
    """Whether tensors or variables are CLIP-TSA's for features wider than 512."""
    entry = tensors.get("mlp.fc1.weight")
    wide = entry is not None and entry.shape[-1] > 512
    return wide or "params/mlp_fc1/kernel" in tensors


def _projection_rows(tensors: Mapping[str, Any]) -> list[Row]:
    """CLIP-TSA's layers for wide features, which every file has, even if unused."""
    kind = LINEAR if _is_wide(tensors) else UNUSED
    return [(kind, "mlp.{fc1|fc2}", "mlp_{fc1|fc2}")]


def _clip_tsa_unused(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Zeros for the tensors that CLIP-TSA's code expects in a file and doesn't use."""
    unused: dict[str, np.ndarray] = {
        f"unused/{path.split('/')[1]}/num_batches_tracked": np.zeros((), np.int64)
        for path in variables
        if path.endswith("/mean")
    }

    last = variables.get("params/Aggregate_conv_5_0/kernel")
    if not _is_wide(variables) and last is not None:
        D = last.shape[-1]
        for name, (fan_in, out) in {"fc1": (D, 1024), "fc2": (1024, D)}.items():
            unused[f"unused/mlp_{name}/kernel"] = np.zeros((fan_in, out), np.float32)
            unused[f"unused/mlp_{name}/bias"] = np.zeros(out, np.float32)
    return unused


CLIP_TSA = ReleasedCheckpoint(
    rows=[
        (LINEAR, "hard_attention.scorer.{fc1|fc2}", "hard_attention_scorer_{fc1|fc2}"),
        (LINEAR, "Aggregate.conv_{1|2|3}.0", "Aggregate_conv_{1|2|3}_0"),
        (NO_BIAS, "Aggregate.conv_{4|5}.0", "Aggregate_conv_{4|5}_0"),
        (BATCH_NORM, "Aggregate.conv_{1|2|3|5}.2", "Aggregate_conv_{1|2|3|5}_2"),
        (
            LINEAR,
            "Aggregate.non_local.{g|theta|phi}",
            "Aggregate_non_local_{g|theta|phi}",
        ),
        (LINEAR, "Aggregate.non_local.W.0", "Aggregate_non_local_W_0"),
        (BATCH_NORM, "Aggregate.non_local.W.1", "Aggregate_non_local_W_1"),
        (LINEAR, "{fc1|fc2|fc3}", "{fc1|fc2|fc3}"),
    ],
    width_tensor="mlp.fc1.weight",
    marks=("hard_attention.", "Aggregate."),
    rows_for=_projection_rows,
    unused_tensors=_clip_tsa_unused,
    switches=[("temporal attention", "attention", "hard_attention.")],
)

# VadCLIP and DSANet share the encoder and both branches.
_BLOCK = "encoder/temporal_resblocks_{i}"
_ENCODER_AND_BRANCHES: list[Row] = [
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
_POSITIONS = "frame_position_embeddings.weight"
_BLOCKS = (
    "temporal blocks",
    "visual_layers",
    r"temporal\.resblocks\.\d+\.ln_1\.weight",
    0,
)
# The number of temporal blocks identifies the public checkpoints.
_PUBLIC = {2: ("ucf", "UCF-Crime"), 1: ("xd", "XD-Violence")}

VADCLIP = ReleasedCheckpoint(
    rows=[
        *_ENCODER_AND_BRANCHES,
        (TABLE, "text_prompt_embeddings", "prompt_learner/text_prompt_embeddings"),
    ],
    width_tensor=_POSITIONS,
    length_tensor=_POSITIONS,
    marks=("text_prompt_embeddings.",),
    clip_prefixes=("clipmodel.",),
    switches=[
        ("attention in windows", "use_local", "temporal."),
        ("graph convolution", "use_graph", "gc1."),
        ("C-branch", "classify", "classifier."),
        ("A-branch", "align", "mlp1."),
        ("learned prompt", "learn_prompt", "text_prompt_embeddings."),
    ],
    counts=[_BLOCKS],
    public=_PUBLIC,
)

_REFINER = "video_anomaly_refiner"
_STACK = "{dnp_extractor|decoder}"
_NORMALITY = [
    (TENSOR, "video_prototypes", "video_prototypes"),
    (LINEAR, "bottleneck.{c_fc|c_proj}", "bottleneck/{c_fc|c_proj}"),
    (NORM, _STACK + ".{i}.{norm1|norm2}", _STACK + "_{i}/{norm1|norm2}"),
    (LINEAR, _STACK + ".{i}.attn.{q|kv|proj}", _STACK + "_{i}/attn/{q|kv|proj}"),
    (TENSOR, _STACK + ".{i}.attn.learn_scale", _STACK + "_{i}/attn/learn_scale"),
    (LINEAR, _STACK + ".{i}.mlp.{fc1|fc2}", _STACK + "_{i}/mlp/{fc1|fc2}"),
]

DSANET = ReleasedCheckpoint(
    rows=[
        *_ENCODER_AND_BRANCHES,
        (
            NO_BIAS,
            "clip_adapter.text_adapter.{i}.fc.0",
            "clip_adapter/text_adapter_{i}_fc_0",
        ),
        # The ablation without the text adapter learns VadCLIP's prompts instead.
        (TABLE, "text_prompt_embeddings", "clip_adapter/text_prompt_embeddings"),
        *(
            (kind, f"{_REFINER}.{theirs}", f"{_REFINER}/{ours}")
            for kind, theirs, ours in _NORMALITY
        ),
    ],
    width_tensor=_POSITIONS,
    length_tensor=_POSITIONS,
    marks=("clip_adapter.", f"{_REFINER}."),
    resembles=Resemblance(
        "vadclip", "adapter", "params/clip_adapter/text_prompt_embeddings"
    ),
    clip_prefixes=("clipmodel.", "clip_adapter.clipmodel."),
    switches=[
        ("graph convolution", "use_graph", "gc1."),
        ("text adapter", "adapter", "clip_adapter.text_adapter."),
        ("SG-NM", "sgnm", f"{_REFINER}."),
    ],
    counts=[
        _BLOCKS,
        # The last adapter replaces the tower's projection.
        (
            "text adapters",
            "text_adapt_until",
            r".*\.text_adapter\.\d+\.fc\.0\.weight",
            1,
        ),
        ("decoder blocks", "decoder_layers", r".*\.decoder\.\d+\.norm1\.weight", 0),
    ],
    sizes=[
        ("prototypes", "prototypes", f"{_REFINER}.video_prototypes"),
        ("decoder heads", "decoder_heads", f"{_REFINER}.decoder.0.attn.learn_scale"),
    ],
    public=_PUBLIC,
)
