"""What every program shares: errors in one sentence, exit codes, the `--config` flag."""

import hashlib
import importlib.util
import os
import pathlib
import platform
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING

from wsvad_jax import flags
from wsvad_jax.errors import InputError, Stopped, is_no_device, one_line
from wsvad_jax.faults import (
    OUT_OF_MEMORY,
    fault_of_machine,
    full_disk,
    is_of_others,
    is_out_of_memory,
    leave_room_to_main,
    print_any_name,
    same_command,
)
from wsvad_jax.files import cache_dir

if TYPE_CHECKING:
    from ml_collections import ConfigDict

__all__ = [
    "OUT_OF_MEMORY",
    "fault_of_machine",
    "is_of_others",
    "is_out_of_memory",
    "same_command",
]

EXIT_INPUT, EXIT_SKIPPED, EXIT_INTERRUPTED = 2, 3, 130
EXIT_AGAIN = 75  # "try again" of sysexits.h: launch/ starts the same command anew
MULTIHOST = "WSVAD_JAX_MULTIHOST"
COMPILE_CACHE = "WSVAD_JAX_COMPILE_CACHE"
HEARTBEAT = 30  # seconds without a sign of life after which a process is given up
RUNNER_HELP = "of Apache Beam: DirectRunner, FlinkRunner …; other flags go to it"
MULTIHOST_HELP = f"one of several processes that compute together (or {MULTIHOST}=1)"


def run(main: Callable[[], int]) -> None:
    """Runs a program's `main` and ends the process with its exit code.

    What a user can cause (bad input, a full disk, Ctrl-C) is one line on standard
    error and a non-zero code; a traceback means a fault of ours.
    """
    print_any_name()
    leave_room_to_main()
    keep_compiled()
    try:
        code = main()
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        code = EXIT_INPUT
    except OSError as e:
        if e.strerror is None:
            raise
        text = full_disk(e) or f"{e.filename or 'a file'}: {e.strerror}"
        print(f"error: {text}", file=sys.stderr)
        code = EXIT_INPUT
    except Stopped as e:
        print(f"stopped: {e}; {same_command()} resumes from there", file=sys.stderr)
        code = EXIT_AGAIN
    except KeyboardInterrupt:
        print(f"interrupted; {same_command()} resumes from here", file=sys.stderr)
        code = EXIT_INTERRUPTED
    except BrokenExecutor:
        print(
            "error: a process that worked for this one was killed, by hand or for want "
            "of memory; free some, or ask for less at a time (batch_size)",
            file=sys.stderr,
        )
        code = EXIT_INPUT
    except Exception as e:
        sentence = fault_of_machine(e)
        # Asking how many processes there are needs a device.
        if not is_no_device(e) and is_of_others(e):
            print(
                f"error: another process of this run is gone ({one_line(e)}); start all "
                "of them again, and they resume from the last checkpoint",
                file=sys.stderr,
                flush=True,
            )
            # Not sys.exit: JAX would wait for that process and then abort this one.
            os._exit(EXIT_AGAIN)
        if not sentence:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        code = EXIT_INPUT
    sys.exit(code)


def keep_compiled() -> None:
    """Has JAX keep compiled programs for later runs, in the user's cache folder.

    JAX's own variables come first, `WSVAD_JAX_COMPILE_CACHE=0` switches it off, and a
    folder that can't be written is left alone. By environment variables, since JAX is
    not imported yet, and because processes that are started here inherit them.
    """
    variable = "JAX_COMPILATION_CACHE_DIR"
    if os.environ.get(COMPILE_CACHE) == "0" or variable in os.environ:
        return
    # Homes are shared by machines: a program for one CPU may not run on another.
    directory = cache_dir() / "compiled" / cpu_kind()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(directory, os.W_OK):
        os.environ[variable] = str(directory)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def cpu_kind() -> str:
    """Returns a name for CPUs that run each other's programs."""
    try:
        about = pathlib.Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        lines = [x for x in about.splitlines() if x.startswith(("flags", "Features"))]
    except OSError:  # not Linux
        lines = [platform.processor()]
    mark = hashlib.blake2b("".join(lines).encode(), digest_size=4).hexdigest()
    return f"{platform.machine()}-{mark}"


def start_hosts(asked: bool) -> None:
    """Joins the other processes of a run, where `--multihost` or the variable asks.

    JAX takes addresses and ranks from Cloud TPU, GKE, Slurm or Open MPI; elsewhere they
    are in JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID. It must be the first thing that is done with JAX.

    Raises:
      InputError: nothing says which processes belong together.
    """
    value = os.environ.get(MULTIHOST, "")
    if value not in ("", "0", "1"):
        raise InputError(f"{MULTIHOST}={value}: expected 1 or 0")
    if not asked and value != "1":
        return
    import jax

    try:
        count, rank = (
            int(number) if (number := os.environ.get(name)) else None
            for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
        )
        # A process that is killed is to be missed within a minute.
        jax.distributed.initialize(
            num_processes=count, process_id=rank, heartbeat_timeout_seconds=HEARTBEAT
        )
    except ValueError as e:
        raise InputError(
            f"--multihost: no other hosts are known ({e}); start the program on all of "
            f"them by launch/, or leave the flag and {MULTIHOST} out on one machine"
        ) from None


def check_runner(runner: str | None) -> None:
    """Raises InputError where a runner is asked for and Apache Beam is missing."""
    if runner and importlib.util.find_spec("apache_beam") is None:
        raise InputError(
            f"--runner {runner}: Apache Beam is not installed; {flags.install('beam')} "
            "(the extra beam)"
        )


def load_config(
    arguments: str | os.PathLike | Sequence[str],
    data_dir: str | os.PathLike | None = None,
    *,
    flags: Sequence[str] = (),
    other_data: bool = False,
) -> "ConfigDict":
    """Reads `--config FILE[:DATASET]` and `--config.KEY=VALUE …`, as ml_collections.

    FILE is a path, or the name of a recipe that comes with the package ('dsanet'). The
    recipe follows the dataset's card: the path of a prepared UCF-Crime gets the recipe
    of ucf. The config is locked: a key that the recipe doesn't have is an error.

    Args:
      arguments: flags, or a recipe alone, as 'dsanet:ucf'.
      data_dir: folder of prepared datasets, in which DATASET may be a name; None is
        the cache's.
      flags: other flags of the program, named where one is misspelt.
      other_data: whether `--config.data.name` may name a dataset that the recipe isn't
        made for, which is then said on standard error.

    Raises:
      InputError: no such file, an unknown key, a value of another type, or a recipe
        that isn't made for the dataset.
    """
    if isinstance(arguments, os.PathLike):
        arguments = f"--config={os.fspath(arguments)}"
    if isinstance(arguments, str):
        whole = arguments.startswith("--")
        arguments = [arguments if whole else f"--config={arguments}"]
    arguments = [_with_path(a) for a in _joined(arguments)]
    _check_flags(arguments, flags)
    given = next((a for a in reversed(arguments) if a.startswith("--config=")), "")
    file, dataset, recipe = _recipe_of(given, data_dir)
    if recipe != dataset:
        arguments = [f"{file}:{recipe}" if a == given else a for a in arguments]

    config = _read(arguments)
    named = any(a.startswith("--config.data.name") for a in arguments)
    if recipe != dataset and not named:
        config.data.name = dataset
    if named:
        made_for = recipe or str(_read([given]).data.name)
        _check_fit(made_for, str(config.data.name), data_dir, other_data)
    elif _lacks(file, recipe, config):
        print(
            f"{file.removeprefix('--config=')} has no recipe of its own for {recipe}: "
            "the one for small folders is taken",
            file=sys.stderr,
        )
    return config


def plain_recipe(name: str, dataset: str) -> "ConfigDict":
    """Returns a recipe of the package as it is, for a dataset's name.

    Raises:
      InputError: there is no such recipe.
    """
    return _read([_with_path(f"--config={name}:{dataset}")])


def _joined(arguments: Sequence[str]) -> list[str]:
    """Writes `--config RECIPE` as one argument."""
    joined = list(arguments)
    while "--config" in joined[:-1]:
        i = joined.index("--config")
        joined[i : i + 2] = [f"--config={joined[i + 1]}"]
    return joined


def _recipe_of(given: str, data_dir: str | os.PathLike | None) -> tuple[str, str, str]:
    """Returns --config=FILE, DATASET, and the name that FILE knows the dataset by."""
    file, colon, dataset = given.partition(":")
    if not colon or not dataset:
        return file, dataset, dataset
    from wsvad_jax.data import catalog

    return file, dataset, catalog.recipe_name(dataset, data_dir)


def _check_fit(
    made_for: str,
    name: str,
    data_dir: str | os.PathLike | None,
    allowed: bool,
) -> None:
    """Holds the dataset that `--config.data.name` names against the recipe's.

    Raises:
      InputError: one of them is a public set, and the other isn't the same.
    """
    from wsvad_jax.data import catalog

    known = (catalog.DEMO, *catalog.PUBLIC)
    found = catalog.recipe_name(name, data_dir)
    if found != catalog.DEMO and not catalog.is_prepared(name, data_dir):
        return  # opening it says so
    a, b = (x if x in known else "a folder of your own" for x in (made_for, found))
    if a == b:
        return
    text = f"--config.data.name={name} is {b}, but the recipe is that of {a}"
    if allowed or not {a, b} & set(catalog.PUBLIC):
        print(text, file=sys.stderr)
        return
    raise InputError(f"{text}; pass the dataset with it: --config RECIPE:{name}")


def _lacks(file: str, recipe: str, config: "ConfigDict") -> bool:
    """Whether a recipe treats a public set as it treats any folder."""
    from wsvad_jax.data import catalog

    if recipe not in catalog.PUBLIC:
        return False
    named, other = (_read([f"{file}:{name}"]).to_dict() for name in (recipe, "folder"))
    named["data"]["name"] = other["data"]["name"]
    return named == other


def _read(arguments: Sequence[str]) -> "ConfigDict":
    import ml_collections
    from absl import flags
    from ml_collections import config_flags

    # A private FlagValues: nothing is registered globally, so tests and notebooks can
    # call this as often as they like.
    values, argv = flags.FlagValues(), ["wsvad_jax", *arguments]
    config_flags.DEFINE_config_file(
        "config", flag_values=values, lock_config=True, sys_argv=argv
    )
    try:
        rest = values(argv)[1:]
        config = values.config if values["config"].present else None
    except OSError as e:
        raise InputError(f"--config {e.filename}: {e.strerror}") from None
    except InputError:
        raise
    except (KeyError, AttributeError) as e:
        raise InputError(_unknown_key(arguments) or f"--config: {e!r}") from None
    except (flags.Error, ValueError, TypeError) as e:
        raise InputError(f"--config: {' '.join(str(e).split())}") from None
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}; --help lists what there is")
    if not isinstance(config, ml_collections.ConfigDict):
        raise InputError(
            "--config is missing; pass a recipe and its dataset: --config dsanet:demo"
        )
    return config


def _check_flags(arguments: Sequence[str], own: Sequence[str]) -> None:
    """Raises InputError for a flag that isn't the recipe's, naming what may be meant."""
    from wsvad_jax.runs import flatten

    strange = [a for a in arguments if a.startswith("-") and a[:8] != "--config"]
    strange += [a for a in arguments if a[:8] == "--config" and a[8:9] not in "=."]
    if not strange:
        return
    word = strange[0].partition("=")[0]
    recipe = [a for a in arguments if a.startswith("--config=")]
    keys = list(flatten(_read(recipe).to_dict())) if recipe else []
    # The protocol in force comes first.
    meant = sorted(
        flags.keys_meant(word, keys), key=lambda k: not k.startswith("clean")
    )
    found = [f"--config.{key}" for key in meant]
    if not found and (near := flags.close(word, [*own, "--config"])):
        found = [near]
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
    package = pathlib.Path(__file__).parent
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


def _unknown_key(arguments: Sequence[str]) -> str:
    """Says which `--config.KEY=VALUE` names a key that the recipe doesn't have."""
    recipe = _read([a for a in arguments if a.startswith("--config=")])
    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0]
        if not argument.startswith("--config."):
            continue
        node, path = recipe, "config"
        for key in name.split(".")[1:]:
            keys = node.keys() if hasattr(node, "keys") else ()
            if key not in keys:
                return (
                    f"--{name}: the recipe has no such key; {path} has "
                    f"{', '.join(keys) or 'none'}"
                )
            node, path = node[key], f"{path}.{key}"
    return ""
