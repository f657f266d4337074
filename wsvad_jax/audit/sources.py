"""Finds what an audit reads: the recipe of a run, its dataset, and the video files."""

import os
import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wsvad_jax.datasets import registry
from wsvad_jax.experiment.saved_config import read_config
from wsvad_jax.experiment.zero_shot import refuse_training
from wsvad_jax.results import run_data
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.data.dataset import Dataset


def read_recipe(run: pathlib.Path) -> "ConfigDict":
    """Returns the recipe of a run, whose folds will be trained.

    A published run selects its weights on test videos. Its folds select as under `clean`.

    Args:
      run: workdir of training, finished or not.

    Raises:
      InputError: no workdir, or a model that isn't trained.
    """
    from ml_collections import ConfigDict

    path = run / "config.json"
    if not path.is_file():
        raise InputError(f"--audit {run}: {_no_run(run)}")
    config = ConfigDict(read_config(path))
    refuse_training(config)
    if config.data.get("base_classes"):
        raise InputError(
            f"--audit {run}: the run was trained on base classes alone "
            f"({config.data.base_classes}); pass a run on all classes"
        )

    if config.protocol == "paper":
        print(
            f"note: {run} has the protocol paper, which selects weights on test videos; "
            "the folds are trained by the recipe's clean protocol",
            file=sys.stderr,
        )
        config.protocol = "clean"
    if not (run / "results.json").is_file():
        print(
            f"note: {run} isn't finished; the audit needs its recipe alone",
            file=sys.stderr,
        )
    return config


def _no_run(run: pathlib.Path) -> str:
    """Returns what is wrong with a path that holds no config.json, and what to do."""
    if not run.exists():
        return "no such folder; pass the workdir of a training run"
    if seeds := sorted(run.glob("seed*/config.json")):
        return f"it holds several seeds; pass one of them, such as {seeds[0].parent}"
    if (run / "meta.json").is_file() and (run.parent / "config.json").is_file():
        return f"it is a model folder; pass its workdir {run.parent}"
    if (run / "meta.json").is_file():
        return (
            "it is a model folder without a run's config.json; pass the workdir of a "
            "training run"
        )
    return "no run there (config.json is missing); pass the workdir of a training run"


def find_dataset(
    name: str, run: pathlib.Path, config: "ConfigDict", data_dir: str | None
) -> pathlib.Path:
    """Returns the version folder of the dataset to audit, which is the run's.

    Args:
      name: NAME or FOLDER of the user: a dataset's name, its prepared folder, or the
        folder that it was prepared from.
      run: workdir of training.
      config: the run's recipe.
      data_dir: folder of prepared datasets; None is the cache's.

    Raises:
      InputError: no such dataset is prepared, or the run is of another one.
    """
    trained_on = registry.find_prepared(config.data.name, data_dir)
    asked = registry.find_prepared(name, data_dir)

    # A folder of the user's own is not prepared itself; its dataset says what made it.
    source = pathlib.Path(name).expanduser()
    built_in = name in (registry.DEMO, *registry.PUBLIC_NAMES)
    if asked is None and not built_in and source.is_dir():
        if trained_on is None:
            raise InputError(_not_prepared(run, config))
        if source_folder(trained_on) != os.path.realpath(source):
            raise InputError(
                f"{run} was trained on {trained_on}, which was not made from {name}; pass "
                "a run of the dataset to audit"
            )
        return trained_on

    if asked is None:
        registry.resolve(name, data_dir)  # raises the error that says what to do
        asked = registry.find_prepared(name, data_dir)
    if asked is None:
        raise InputError(f"the dataset {name} is not prepared; run prepare first")
    if trained_on is not None and os.path.realpath(asked) == os.path.realpath(
        trained_on
    ):
        return asked

    # The same records may be in another place than at training.
    content = run_data.read(run).get("content")
    if content and content == _content(asked):
        return asked
    raise InputError(
        f"{run} was trained on {config.data.name}, not on {name} ({asked}); pass a run of "
        "the dataset to audit"
    )


def _not_prepared(run: pathlib.Path, config: "ConfigDict") -> str:
    return (
        f"the dataset {config.data.name} of {run} is not prepared here; prepare it again, "
        "or pass the --data_dir that holds it"
    )


def _metadata(path: pathlib.Path) -> Mapping:
    from wsvad_jax.data.dataset import METADATA

    value = files.read_json(path / METADATA)
    return value if isinstance(value, dict) else {}


def _content(path: pathlib.Path) -> str:
    return str(_metadata(path).get("content", ""))


def source_folder(path: pathlib.Path) -> str:
    """Returns the real path of the folder that a dataset was prepared from, or ""."""
    source = _metadata(path).get("source")
    return os.path.realpath(source) if isinstance(source, str) and source else ""


def note_changes(run: pathlib.Path, dataset: "Dataset") -> None:
    """Prints a note if the dataset has changed since the run was trained.

    Only the recipe is taken from the run, so corrected labels are no error.
    """
    difference = run_data.difference(run_data.read(run), run_data.describe(dataset))
    if difference:
        print(
            f"note: {run} was trained on other data: {difference}; the audit takes the "
            "run's recipe, and the dataset as it is now",
            file=sys.stderr,
        )
