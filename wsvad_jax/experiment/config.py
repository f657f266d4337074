"""Reads a recipe from `--config FILE[:DATASET]` and `--config.KEY=VALUE` flags."""

import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from wsvad_jax.experiment import old_keys, quick_look
from wsvad_jax.utils import flags
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.flags import refuse_groups, wrong_value

if TYPE_CHECKING:
    from ml_collections import ConfigDict

FALLBACK_DATASET = (
    "ucf"  # the public set whose values serve those that a paper doesn't report
)

OWN = "a folder"  # any name that no recipe knows


def load_config(
    arguments: str | os.PathLike | Sequence[str],
    data_dir: str | os.PathLike | None = None,
    *,
    flags: Sequence[str] = (),
    other_data: bool = False,
    quick: bool = False,
) -> "ConfigDict":
    """Reads `--config FILE[:DATASET]` and `--config.KEY=VALUE …`, as with ml_collections.

    FILE is a path, or the name of a recipe that comes with the package ('dsanet'). The
    recipe follows the dataset's card: the path of a prepared UCF-Crime gets the recipe
    of ucf. The config is locked: a key that the recipe doesn't have is an error.

    Args:
      arguments: list of flags, or one recipe name, as 'dsanet:ucf'.
      data_dir: folder of prepared datasets, in which DATASET may be a name; None is
        the cache's.
      flags: other flags of the program, for suggestions.
      other_data: whether `--config.data.name` may name a dataset that the recipe isn't
        made for, which is then said on standard error.
      quick: whether the recipe is shortened to a quick look, see `quick_look`.

    Raises:
      InputError: no such file, an unknown key, a value of another type, or a recipe
        that isn't made for the dataset.
    """
    # A path or a name alone counts as the flag.
    if isinstance(arguments, os.PathLike):
        arguments = f"--config={os.fspath(arguments)}"
    if isinstance(arguments, str):
        is_flag = arguments.startswith("--")
        arguments = [arguments if is_flag else f"--config={arguments}"]

    arguments = [_with_path(a) for a in _joined(arguments)]
    _check_flags(arguments, flags)

    # A path to a prepared public dataset gets the recipe of its name.
    recipe_flag = _recipe_flag(arguments)
    file, dataset, recipe = _recipe_of(recipe_flag, data_dir)
    arguments = [a for a in arguments if not a.startswith("--config=")]
    named = any(a.startswith("--config.data.name") for a in arguments)

    if recipe_flag:
        recipe_flag = f"{file}:{recipe}" if recipe else file
    config = _read(recipe_flag, warn=True)
    made_for = recipe or str(config.data.name)
    if recipe != dataset:
        config.data.name = dataset
    if quick:
        _check_quick(arguments)
        quick_look.apply(config, _read(f"{file}:{OWN}"))

    # The user's values come last, and may name another dataset.
    changed = _override(config, arguments)
    if named:
        _check_fit(made_for, str(changed.data.name), data_dir, other_data)
    elif lender := _borrowed_from(file, recipe, config):
        print(
            f"{file.removeprefix('--config=')} has no recipe of its own for {recipe}: "
            f"{lender} is taken",
            file=sys.stderr,
        )
    return changed


def plain_recipe(name: str, dataset: str) -> "ConfigDict":
    """Returns a recipe of the package as it is, for a dataset's name.

    Raises:
      InputError: there is no such recipe.
    """
    config = _read(_with_path(f"--config={name}:{dataset}"))
    config.lock()
    return config


def _check_quick(arguments: Sequence[str]) -> None:
    """Raises InputError for a key that a quick look doesn't read."""
    for flag in (a.partition("=")[0] for a in arguments):
        section, _, key = flag.removeprefix("--config.").partition(".")
        if section == "protocol":
            raise InputError(f"{flag} contradicts --quick, which has its own; pass one")
        if section in old_keys.PROTOCOLS and section != old_keys.QUICK:
            raise InputError(
                f"{flag} has no effect with --quick; pass "
                f"--config.{old_keys.QUICK}.{key}"
            )


def _joined(arguments: Sequence[str], flag: str = "--config") -> list[str]:
    """Joins `--config RECIPE` to `--config=RECIPE`, or another flag to its value."""
    joined = list(arguments)
    while flag in joined[:-1]:
        i = joined.index(flag)
        joined[i : i + 2] = [f"{flag}={joined[i + 1]}"]
    return joined


def _recipe_of(given: str, data_dir: str | os.PathLike | None) -> tuple[str, str, str]:
    """Returns --config=FILE, DATASET, and the dataset's name in the recipe file."""
    file, colon, dataset = given.partition(":")
    if not colon or not dataset:
        return file, dataset, dataset
    from wsvad_jax.datasets import registry

    return file, dataset, registry.recipe_name(dataset, data_dir)


def _check_fit(
    made_for: str,
    name: str,
    data_dir: str | os.PathLike | None,
    allowed: bool,
) -> None:
    """Checks that the dataset of `--config.data.name` fits the recipe.

    Raises:
      InputError: one of them is a public set, and the other isn't the same.
    """
    from wsvad_jax.datasets import registry

    known = (registry.DEMO, *registry.PUBLIC_NAMES)
    found = registry.recipe_name(name, data_dir)

    if found != registry.DEMO and not registry.is_prepared(name, data_dir):
        return  # opening it reports that it is missing

    # All folders of a user count as one kind.
    a, b = (x if x in known else "a folder of your own" for x in (made_for, found))
    if a == b:
        return

    # The values of a public set's recipe suit no other data.
    text = f"--config.data.name={name} is {b}, but the recipe is that of {a}"
    if allowed or not {a, b} & set(registry.PUBLIC_NAMES):
        print(text, file=sys.stderr)
        return
    raise InputError(f"{text}; pass the dataset with it: --config RECIPE:{name}")


def _recipe_flag(arguments: Sequence[str]) -> str:
    """Returns the last `--config=FILE[:DATASET]`, "" if there is none."""
    return next((a for a in reversed(arguments) if a.startswith("--config=")), "")


def _borrowed_from(file: str, recipe: str, config: "ConfigDict") -> str:
    """Returns the dataset whose values a recipe file gives a public set, or "".

    A recipe file has values of its own for the sets that its paper reports.
    """
    from wsvad_jax.datasets import registry

    # The fallback's own values are borrowed from nobody.
    if recipe not in registry.PUBLIC_NAMES or recipe == FALLBACK_DATASET:
        return ""

    def values(dataset: str) -> dict:
        recipe_values = _read(f"{file}:{dataset}").to_dict()
        recipe_values["data"]["name"] = recipe
        # These keys depend on the dataset's files, not on the paper.
        recipe_values.pop("clip", None)
        recipe_values.setdefault("eval", {})["normal_truth"] = ""
        return recipe_values

    # A recipe that is the same for every dataset suits this one, too.
    named = values(recipe)
    if named == values("folder") == values(FALLBACK_DATASET):
        return ""
    if named == values("folder"):
        return "the one for small folders"
    return f"that of {FALLBACK_DATASET}" if named == values(FALLBACK_DATASET) else ""


def _read(recipe_flag: str, *, warn: bool = False) -> "ConfigDict":
    """Reads a recipe's file, after renaming old keys, unlocked.

    Args:
      recipe_flag: `--config=FILE[:DATASET]`.
      warn: whether to warn about renamed keys.
    """
    import ml_collections
    from absl import flags
    from ml_collections import config_flags

    # A private FlagValues registers nothing globally: tests and notebooks can call
    # this as often as they like.
    values = flags.FlagValues()
    argv = ["wsvad_jax", *([recipe_flag] if recipe_flag else [])]
    config_flags.DEFINE_config_file(
        "config", flag_values=values, lock_config=False, sys_argv=argv
    )

    # The file is Python: it may fail in any way.
    try:
        values(argv)
        config = values.config if values["config"].present else None
    except OSError as e:
        raise InputError(f"--config {e.filename}: {e.strerror}") from None
    except InputError:
        raise
    except (flags.Error, ValueError, TypeError, KeyError, AttributeError) as e:
        raise InputError(f"--config: {' '.join(str(e).split())}") from None
    if not isinstance(config, ml_collections.ConfigDict):
        raise InputError(
            "--config is missing; pass a recipe and its dataset: --config dsanet:demo"
        )

    # A recipe of a user may have keys of an older version.
    config.unlock()
    renamed = old_keys.upgrade(config)
    if warn:
        file = recipe_flag.removeprefix("--config=")
        _warn_of_old_names(renamed, f"{file}: config.")
    return config


def _override(config: "ConfigDict", arguments: Sequence[str]) -> "ConfigDict":
    """Returns a recipe, locked, with the values of `--config.KEY=VALUE` flags.

    Raises:
      InputError: an unknown key, or a value of another type.
    """
    from absl import flags
    from ml_collections import config_dict, config_flags

    arguments, renamed = old_keys.upgrade_flags(arguments)
    _warn_of_old_names(renamed, "--config.")
    refuse_groups(config, arguments)

    # ml_collections needs a placeholder type for keys that are None.
    for section, key, path in _keys(config):
        if old_keys.may_be_none(path):
            flag = f"--config.{path}="
            given = [a for a in arguments if a.startswith(flag)]
            if given and given[-1] == f"{flag}none":
                section[key] = None
                arguments = [a for a in arguments if a not in given]
            arguments = [a for a in arguments if a != f"{flag}none"]
            if section[key] is None:
                del section[key]
                kind = int if old_keys.is_optional(path) else float
                section[key] = config_dict.placeholder(kind)
        # A number or a word: a field of one type would refuse the other.
        elif path == "data.microbatches":
            value = section[key]
            del section[key]
            section[key] = config_dict.placeholder(object)
            section[key] = value
            # Flags of such a field are read as FLAG=VALUE alone.
            arguments = _joined(arguments, f"--config.{path}")

    # Errors of ml_collections and absl name no key of the recipe.
    values, argv = flags.FlagValues(), ["wsvad_jax", *arguments]
    try:
        config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, lock_config=True, sys_argv=argv
        )
        rest = values(argv)[1:]
        changed = values.config
    except (KeyError, AttributeError) as e:
        raise InputError(
            _unknown_key(config, arguments) or f"--config: {e!r}"
        ) from None
    except (flags.Error, ValueError, TypeError) as e:
        raise InputError(
            _unknown_key(config, arguments) or f"--config{wrong_value(str(e), config)}"
        ) from None
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}; --help lists what there is")

    # `epochs` without `steps` overrides the recipe's steps.
    keys = {a.removeprefix("--config.").partition("=")[0] for a in arguments}
    for protocol in old_keys.PROTOCOLS:
        if f"{protocol}.epochs" in keys and f"{protocol}.steps" not in keys:
            changed[protocol].steps = None

    changed.unlock()  # another schedule may need other keys
    old_keys.upgrade(changed)
    changed.lock()
    return changed


def _keys(
    config: "ConfigDict", prefix: str = ""
) -> Iterator[tuple["ConfigDict", str, str]]:
    """Yields section, key and dotted path of each value."""
    for key in list(config):
        if hasattr(config[key], "items"):
            yield from _keys(config[key], f"{prefix}{key}.")
        else:
            yield config, key, f"{prefix}{key}"


def _warn_of_old_names(renamed: Sequence[tuple[str, str]], prefix: str) -> None:
    for old, new in renamed:
        print(f"warning: {prefix}{old} is now config.{new}", file=sys.stderr)


def _check_flags(arguments: Sequence[str], own: Sequence[str]) -> None:
    """Raises InputError for an unknown flag, with suggestions."""
    from wsvad_jax.utils.text import flatten

    # Flags of the program itself have been taken out before.
    strange = [a for a in arguments if a.startswith("-") and a[:8] != "--config"]
    strange += [a for a in arguments if a[:8] == "--config" and a[8:9] not in "=."]
    if not strange:
        return

    word = strange[0].partition("=")[0]
    recipe = _recipe_flag(arguments)
    keys = list(flatten(_read(recipe).to_dict())) if recipe else []

    # Keys of the default protocol come first.
    meant = sorted(
        flags.keys_meant(word, keys), key=lambda k: not k.startswith("clean")
    )
    found = [f"--config.{key}" for key in meant]

    # `--seed` may be --seeds, a flag, or a key of the recipe.
    if near := flags.close(word, [*own, "--config"]):
        found = (
            [near, *found] if not found or near in (f"{word}s", word[:-1]) else found
        )

    hint = f"; did you mean {' or '.join(found)}?" if found else ""
    raise InputError(
        f"{word}: no flag of this program{hint or '; --help lists what there is'}"
    )


def _with_path(argument: str) -> str:
    """Puts a recipe's path in the place of its name in `--config=NAME[:DATASET]`.

    Raises:
      InputError: neither a file nor a recipe's name.
    """
    flag, _, value = argument.partition("=")
    name, colon, dataset = value.partition(":")
    if flag != "--config" or pathlib.Path(name).is_file():
        return argument

    package = pathlib.Path(__file__).parent.parent
    # Beside the package in a checkout, within it where a wheel was installed.
    folders = [package / "configs", package.parent / "configs"]
    for folder in folders:
        if name.isidentifier() and (folder / f"{name}.py").is_file():
            return f"{flag}={folder / name}.py{colon}{dataset}"

    known = sorted({p.stem for folder in folders for p in folder.glob("*.py")})
    raise InputError(
        f"--config {name}: no such file; pass a recipe's path or one of the names "
        f"{', '.join(known)}"
    )


def _unknown_key(config: "ConfigDict", arguments: Sequence[str]) -> str:
    """Returns an error message for the first key that the recipe doesn't have."""
    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0]
        if not argument.startswith("--config."):
            continue

        node, path = config, "config"
        for key in name.split(".")[1:]:
            keys = node.keys() if hasattr(node, "keys") else ()
            if key not in keys:
                return (
                    f"--{name}: the recipe has no such key; {path} has "
                    f"{', '.join(keys) or 'none'}"
                )
            node, path = node[key], f"{path}.{key}"
    return ""
