"""Reads recipes with the key names and values of earlier versions.

This is the only place that knows the old names, the numbers that stood for "not set",
and the values that keys had before recipes stated them. It serves flags, recipe files,
the config.json of workdirs, `config` in a model's meta.json, and collected results.
"""

import fnmatch
from collections.abc import Iterator, Sequence
from typing import Any

Config = Any  # nested keys, as a dict or a ConfigDict
# Old key to the last part of the new one; `*` stands for a protocol or a module.
RENAMED = {
    "checkpoint_every": "checkpoint_every_steps",
    "data.parts": "microbatches",
    "data.pairing": "batch_sampling",
    "*.eval_every": "eval_every_steps",
    "*.later_of_equals": "prefer_later_on_tie",
    "*.without_place": "remove_position_bias",
    "*.optim.*.count_loaders": "schedule_counts_loader_batches",
}
RENAMED_VALUES = {
    "data.batch_sampling": {"halves": "balanced", "mixed": "uniform"},
}
# Whole numbers that may be None, which was written as 0.
OPTIONAL = (
    "checkpoint_every_steps",
    "data.length",
    "mesh.data",
    "mesh.fsdp",
    "*.epochs",
    "*.steps",
    "*.eval_every_steps",
)
# Other numbers that may be None; 0 never stood for that.
OPTIONAL_NUMBERS = ("model.temperature",)
QUICK = "quick"  # of --quick, which derives its section (`experiment.quick_look`)
PROTOCOLS = ("clean", "paper", QUICK)
# What keys were before recipes stated them, by section.
DEFAULTS: dict[str, dict[str, Any]] = {
    "": {"seeds": (), "checkpoint_every_steps": None},
    "data": {"microbatches": 1, "base_classes": ""},
    "mesh": {"data": None, "fsdp": None},
}
# Switches of models and terms of their losses that came later, by model.
EVENNESS = {"positions": True, "distance_graph": "released"}
MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "vadclip": {"classifier_init_scale": 1.0, **EVENNESS},
    "dsanet": {"classifier_init_scale": 1.0, "use_graph": True, **EVENNESS},
}
LOSS_DEFAULTS: dict[str, dict[str, Any]] = {
    "vadclip": {"cross_pseudo": 0.0},
    "dsanet": {"cross_pseudo": 0.0},
}
PROTOCOL_DEFAULTS = {
    "epochs": None,
    "steps": None,
    "reload_best": False,
    "prefer_later_on_tie": False,
    "remove_position_bias": False,
}
WARMUP_COSINE_DEFAULTS = {"final": 0.1, "schedule_counts_loader_batches": False}


def new_key(key: str) -> str:
    """Returns today's name of a key such as 'data.parts'; other keys as they are."""
    for old, name in RENAMED.items():
        if fnmatch.fnmatchcase(key, old):
            section, dot, _ = key.rpartition(".")
            return f"{section}{dot}{name}"
    return key


def new_value(key: str, value: Any) -> Any:
    """Returns today's value of a key with its new name."""
    if is_optional(key) and type(value) is int and value == 0:
        return None
    values = RENAMED_VALUES.get(key, {})
    return values.get(value, value) if isinstance(value, str) else value


def is_optional(key: str) -> bool:
    """Whether a key is a whole number that may be None."""
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in OPTIONAL)


def may_be_none(key: str) -> bool:
    """Whether a key is a number, whole or not, that may be None."""
    return is_optional(key) or key in OPTIONAL_NUMBERS


def upgrade(config: Config) -> list[tuple[str, str]]:
    """Changes a recipe, in place, to today's keys and values, and completes it.

    Args:
      config: nested keys, as a dict or an unlocked ConfigDict.

    Returns:
      Pairs of old and new name, of each key that was renamed.
    """
    renamed = list(_rename(config))
    _complete(config)
    return renamed


def _rename(config: Config, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name in list(config):
        key, value = f"{prefix}{name}", config[name]
        if hasattr(value, "items"):
            yield from _rename(value, f"{key}.")
            continue

        new = new_key(key)
        if new != key:
            del config[name]
            yield key, new
        # A file that states both names means the new one.
        last = new.rpartition(".")[2]
        if new != key and last in config:
            continue

        value_now = new_value(new, value)
        if new != key or value_now is not value:
            config[last] = value_now


def _complete(config: Config) -> None:
    """Adds the keys that older recipes left out."""
    for section, defaults in DEFAULTS.items():
        if section and section not in config:
            config[section] = {}
        _add(config[section] if section else config, defaults)
    name = config.get("model_name")
    _add(config.get("model"), MODEL_DEFAULTS.get(name, {}))
    _add(config.get("loss"), LOSS_DEFAULTS.get(name, {}))

    for protocol in PROTOCOLS:
        plan: Any = config.get(protocol)
        if not hasattr(plan, "items"):
            continue
        _add(plan, PROTOCOL_DEFAULTS)
        if plan["steps"] is not None:  # they counted, whatever epochs said
            plan["epochs"] = None
        groups = plan.get("optim")
        for group in groups.values() if hasattr(groups, "items") else ():
            if hasattr(group, "items") and group.get("schedule") == "warmup_cosine":
                _add(group, WARMUP_COSINE_DEFAULTS)


def _add(section: Any, defaults: dict[str, Any]) -> None:
    if hasattr(section, "items"):
        for key, value in defaults.items():
            if key not in section:
                section[key] = value


def upgrade_flags(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Returns `--config.KEY=VALUE` flags with today's keys and values.

    The second result has pairs of old and new name. "none" and, where it stood for
    that, 0 become "none".
    """
    changed, renamed = [], []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        flag, equals, text = argument.partition("=")
        if not flag.startswith("--config."):
            changed.append(argument)
            continue

        key = flag.removeprefix("--config.")
        if (new := new_key(key)) != key:
            renamed.append((key, new))
        # `--config.KEY VALUE` is `--config.KEY=VALUE`, except for switches.
        if not equals and left and (may_be_none(new) or new in RENAMED_VALUES):
            equals, text = "=", left.pop(0)
        unset = ("none", "0") if is_optional(new) else ("none",)
        if may_be_none(new) and text.strip().lower() in unset:
            text = "none"
        changed.append(f"--config.{new}{equals}{new_value(new, text)}")
    return changed, renamed
