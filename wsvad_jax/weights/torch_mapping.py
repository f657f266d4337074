"""Translates released PyTorch state dicts to our Flax variables, and back.

The spec of a model has the rows (kind, PyTorch module, our module), which
`wsvad_jax.models.released` explains. `import_state` reads them from left to right,
`export_state` from right to left, so the round trip loses nothing.

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
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.models.released import ReleasedCheckpoint

State = Mapping[str, np.ndarray]


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


def rules(model_name: str, tensors: Mapping[str, Any] | None = None) -> list[Rule]:
    """Returns the rules of a model, one per row and tensor of its kind.

    Args:
      model_name: key of `models.MODELS`.
      tensors: tensors or variables by name, on which some rows depend.
    """
    released = released_checkpoint(model_name)
    rows = list(released.rows)

    if released.rows_for is not None:
        rows += released.rows_for(tensors or {})

    return [
        Rule(theirs + suffix, path.replace("*", ours))
        for kind, theirs, ours in rows
        for suffix, path in kind.items()
    ]


def released_checkpoint(model_name: str) -> "ReleasedCheckpoint":
    """Returns the names in a model's released checkpoints.

    Raises:
      InputError: no such model, or none with released checkpoints.
    """
    from wsvad_jax.models import MODELS

    if model_name not in MODELS:
        raise InputError(
            f"model_name is {model_name!r}; the models are {', '.join(MODELS)}"
        )
    released = MODELS[model_name].released
    if released is None:
        known = [name for name, spec in MODELS.items() if spec.released is not None]
        raise InputError(
            f"{model_name} has no released checkpoints to convert; the models that have "
            f"are {', '.join(known)}"
        )
    return released


def title(model_name: str) -> str:
    """Returns the name of a model in messages."""
    from wsvad_jax.models import MODELS

    return MODELS[model_name].title


def _translate(text: str, source: str, target: str) -> str | None:
    match = _pattern(source).fullmatch(text)
    if match is None:
        return None

    # The placeholders of both templates correspond in order.
    groups = iter(match.groups())
    return re.sub(r"\{[^}]*\}", lambda _: next(groups), target)


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    # Literal text and placeholders alternate.
    literal, *rest = re.split(r"\{([^}]*)\}", template)
    expression = re.escape(literal)
    for group, literal in zip(rest[::2], rest[1::2], strict=True):
        expression += r"(\d+)" if group == "i" else f"({group})"
        expression += re.escape(literal)
    return re.compile(expression)


def _only(translations: list[str | None], text: str) -> str | None:
    """Returns the one translation that isn't None, or None if there is none."""
    matches = [x for x in translations if x is not None]
    assert len(matches) <= 1, f"{text}: matched by {len(matches)} rules"
    return matches[0] if matches else None


def identify(state: State) -> str | None:
    """Returns the model of a checkpoint, recognised by tensors that no other has."""
    from wsvad_jax.models import MODELS

    modules = {name.rpartition(".")[0] for name in state}
    # The last first: DSANet's files can have VadCLIP's tensors, and not the reverse.
    for spec in reversed(MODELS.values()):
        if spec.released is None:
            continue
        if spec.released.marks and any(
            n.startswith(spec.released.marks) for n in state
        ):
            return spec.name
        if modules in spec.released.module_sets:
            return spec.name
    return None


def check_model(
    model_name: str,
    state: State,
    source: str,
    switches: Mapping[str, Any] | None = None,
) -> None:
    """Raises InputError if a state dict belongs to another model.

    Args:
      model_name: key of `models.MODELS`.
      state: tensors by PyTorch name.
      source: name of the state dict in errors.
      switches: fields of the model, `config.model`.
    """
    identified = identify(state)
    # DSANet without its text adapter has VadCLIP's prompts, under the same name.
    alike = released_checkpoint(model_name).resembles
    if alike is not None and not (switches or {}).get(alike.switch, True):
        identified = model_name if identified == alike.model else identified
    if identified in (None, model_name):
        return

    raise InputError(
        f"{source}: this is a {title(identified)} checkpoint, expected one of "
        f"{title(model_name)}; pass the config of {title(identified)}"
    )


def import_state(
    model_name: str,
    state: State,
    expected: Mapping[str, Any] | None = None,
    source: str = "the state dict",
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Converts a PyTorch state dict to our variables.

    Args:
      model_name: key of `models.MODELS`.
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
    released = released_checkpoint(model_name)
    wanted = None if expected is None else flatten(expected)
    # A foreign state dict gets one sentence instead of a list of all its tensors.
    alike, switches = released.resembles, {}
    if alike is not None:
        switches[alike.switch] = alike.leaf not in (wanted or ())
    check_model(model_name, state, source, switches)

    problems = {key: [] for key in ("unknown", "missing", "misshapen", "unequal")}
    # CLIP is frozen and not part of our variables.
    state, clip = _split_clip(released.clip_prefixes, state, problems)
    state = {_rename(name, released.aliases): array for name, array in state.items()}

    # Each tensor is matched by exactly one rule, or reported.
    table = rules(model_name, {**(wanted or {}), **state})
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
            f"{source} doesn't fit {title(model_name)} with this config: {listed}"
        )

    return {"params": {}, "batch_stats": {}, "unused": {}, **nest(flat)}, clip


def export_state(
    model_name: str, variables: Mapping[str, Any], clip: State | None = None
) -> dict[str, np.ndarray]:
    """Converts our variables to the state dict that the released code loads.

    Args:
      model_name: key of `models.MODELS`.
      variables: `params`, and `batch_stats` and `unused` if there are any.
      clip: CLIP's tensors by OpenAI's names, for files that contain them.

    Raises:
      InputError: the model has no counterpart of a variable.
    """
    flat = flatten(variables)
    released, table = released_checkpoint(model_name), rules(model_name, flat)
    # The released code refuses a file without its unused tensors.
    if released.unused_tensors is not None:
        flat = {**released.unused_tensors(flat), **flat}

    names = {path: _only([rule.name(path) for rule in table], path) for path in flat}
    if unknown := [path for path, name in names.items() if name is None]:
        raise InputError(
            f"the checkpoint is not one of {title(model_name)}, which has no "
            f"{', '.join(unknown)}"
        )

    state = {str(names[path]): _reverse(path, leaf) for path, leaf in flat.items()}
    # The released code loads its CLIP from the same file.
    if clip:
        for prefix in released.clip_prefixes:
            state |= {prefix + name: np.asarray(leaf) for name, leaf in clip.items()}
    return state


def _rename(name: str, aliases: Mapping[str, str]) -> str:
    module, dot, leaf = name.rpartition(".")
    return aliases.get(module, module) + dot + leaf


def _reverse(path: str, array: Any) -> np.ndarray:
    # PyTorch's kernels are [out, in], see above.
    array = np.asarray(array)
    return np.ascontiguousarray(array.T) if path.endswith("/kernel") else array


def _split_clip(
    prefixes: tuple[str, ...], state: State, problems: dict[str, list[str]]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Separates the model's tensors from CLIP's.

    Unequal or incomplete copies of CLIP are added to `problems`.
    """
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
    """Adds the differences from the model to `problems`, in PyTorch's names and layout."""

    def describe(path, leaf):
        name = _only([rule.name(path) for rule in table], path) or path
        return name, list(_shape(path, leaf))

    # Tensors that no forward pass reads are in files only.
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
