"""Workdirs of runs: their names, and the checks before a run is trained in one."""

import contextlib
import pathlib
import sys
from typing import TYPE_CHECKING, Any

from wsvad_jax.experiment.identity import (
    MUTABLE_ON_RESUME,
    comparable_config,
    first_difference,
    keys_in_force,
)
from wsvad_jax.experiment.saved_config import read_config
from wsvad_jax.experiment.zero_shot import refuse_training
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def run_name(config: "ConfigDict") -> str:
    """Returns MODEL-DATASET; for a dataset given by path, the folder's name."""
    path = pathlib.PurePath(config.data.name)
    # A prepared dataset's folder is NAME/VERSION.
    name = (
        path.parent.name if path.name[:1].isdigit() and path.parent.name else path.name
    )
    return f"{config.model_name}-{name}"


def default_workdir(config: "ConfigDict") -> pathlib.Path:
    """Returns runs/MODEL-DATASET-SEED, with the suffix -paper or -quick of that protocol."""
    name = f"{run_name(config)}-{config.seed}"
    if config.protocol != "clean":
        name += f"-{config.protocol}"
    return pathlib.Path("runs") / name


def check_workdir(
    workdir: pathlib.Path, config: "ConfigDict", restart: bool = False
) -> None:
    """Checks that a workdir is new, empty or holds a run of this recipe.

    Args:
      workdir: folder to check.
      config: recipe.
      restart: whether a run of another recipe may be moved aside.

    Raises:
      InputError: the workdir belongs to another run, or holds other files, or the
        model has nothing to train.
    """
    refuse_training(config)
    path = workdir / "config.json"
    if path.is_file():
        if restart:
            return

        saved = keys_in_force(read_config(path), MUTABLE_ON_RESUME)
        asked = keys_in_force(comparable_config(config), MUTABLE_ON_RESUME)
        if difference := first_difference(saved, asked):
            key, old, new = difference
            raise InputError(
                f"{workdir} belongs to another run: its {key} is {old!r}, yours "
                f"{new!r}; choose another folder, or pass train's --restart, which keeps "
                "the other run in previous-N"
            )
    elif workdir.is_dir() and any(
        not p.name.startswith((".", "previous-")) for p in workdir.iterdir()
    ):
        raise InputError(
            f"{workdir} is not empty and holds no run (config.json is missing); choose "
            "another --workdir"
        )


def check_workdirs(
    configs: dict[pathlib.Path, "ConfigDict"], data_dir: str | None, restart: bool
) -> None:
    """Checks the workdirs of all seeds, given recipes by workdir.

    Raises:
      InputError: a workdir belongs to another recipe or other data.
    """
    from wsvad_jax.results import run_data

    # A dataset that can't be opened is reported when training opens it.
    current = None
    with contextlib.suppress(InputError):
        dataset = run_data.prepared(next(iter(configs.values())), data_dir)
        current = run_data.describe(dataset)

    for workdir, config in configs.items():
        check_workdir(workdir, config, restart)
        if current and not restart:
            run_data.check(workdir, current)


def check_same_data(workdir: pathlib.Path, current: dict[str, Any]) -> None:
    """Checks that the dataset is the one that an unfinished run was started with.

    Prints a note for runs of older versions, which didn't record their data.

    Args:
      workdir: folder of the run, new or existing.
      current: description of the dataset, from `run_data.describe`.

    Raises:
      InputError: the dataset has changed.
    """
    from wsvad_jax.parallel import multihost
    from wsvad_jax.results import run_data

    # run.json is written first, so a refused run can be identified as well.
    if multihost.is_process_zero():
        run_data.begin_about(workdir)

    has_config = (workdir / "config.json").is_file()
    recorded = run_data.check(workdir, current)
    if has_config and not recorded and multihost.is_process_zero():
        print(
            f"{workdir} was started by an older version, which didn't record its data; "
            "it resumes without a comparison of the dataset",
            file=sys.stderr,
        )
