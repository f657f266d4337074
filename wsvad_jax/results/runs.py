"""Reads finished runs, and exports them as JSON files for version control.

A run is a workdir with results.json, config.json and run.json. A collected run has all
three in one file, FOLDER/DATASET/MODEL/PROTOCOL/seedN.json, without paths of the machine
that it ran on; its curves are in seedN.curves.json beside it. `evaluate --checkpoint`
writes no config.json, since the weights were trained elsewhere. A model without weights
has a single run, seed0, with a config.json.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from wsvad_jax.experiment import identity, old_keys
from wsvad_jax.experiment.saved_config import check_config, read_config
from wsvad_jax.results import run_data
from wsvad_jax.results.event_table import event_values
from wsvad_jax.results.results_table import IOUS
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json

# Files in a folder of collected runs: weights scored here, runs, and their summaries.
SCORED = re.compile(r".+(?<!\.curves)\.json")
COLLECTED = re.compile(r"seed\d+\.json")
SUMMARY = re.compile(r"summary\.json|.+-seeds\.json")
NOT_TRAINED = "not trained"  # selection in results.json of a model without weights
# Key of results.json; the second is the name that older files have.
POSITION_BIAS_KEYS = ("position_bias_removed", "without_place")


@dataclasses.dataclass(frozen=True)
class Run:
    """The results of one run and the config that it was trained with."""

    source: pathlib.Path  # workdir, or file of a collected run
    results: Mapping[str, Any]  # content of results.json
    config: Mapping[str, Any] | None  # None for weights that were trained elsewhere
    about: Mapping[str, Any] | None = None  # content of run.json

    @property
    def curves_path(self) -> pathlib.Path:
        """Path of the run's curves (`wsvad_jax.metrics.curves`), which may be missing."""
        if self.source.is_dir():
            return self.source / "curves.json"
        return self.source.with_suffix(".curves.json")

    @property
    def model(self) -> str:
        return self.results["model"]

    @property
    def dataset(self) -> str:
        return self.results["dataset"]

    @property
    def seed(self) -> int:
        return self.results["seed"]

    @property
    def protocol(self) -> str:
        """'clean', 'paper' or 'quick'; '' for weights that were trained elsewhere."""
        return self.results["protocol"] if self.config else ""

    @property
    def is_trained(self) -> bool:
        """Whether the model has weights; one without has a single run, and no seeds."""
        return self.results.get("selection") != NOT_TRAINED

    @property
    def is_ensemble(self) -> bool:
        """Whether these are mean ranks of several runs (`evaluate --with`)."""
        return bool(self.results.get("ensemble"))

    @property
    def content(self) -> str:
        """Hash of the dataset's records; "" if unknown."""
        return (self.about or {}).get("dataset") or ""

    @property
    def weights_description(self) -> str:
        """Origin of the weights and how they were selected, in words."""
        selection = self.results.get("selection") or "selection unknown"
        if not self.is_trained or self.is_ensemble:
            return selection
        if not self.config:
            return f"scored here: {self.results.get('checkpoint')}, {selection}"

        # The paper protocol selects on the test set.
        if self.protocol == "paper" and selection != "last weights":
            selection = "selected on test"
        if any(self.results.get(key) for key in POSITION_BIAS_KEYS):
            selection += ", position bias removed"
        if self.protocol == old_keys.QUICK:
            return f"a quick look (--quick), not trained fully: {selection}"
        return f"trained here, {self.protocol}: {selection}"

    def settings(self) -> dict[str, Any]:
        """Returns the config values that affect the metrics, as {'a.b': value}."""
        if self.is_ensemble:
            return {"of": self.results["ensemble"].get("members")}
        if not self.config:
            return {"checkpoint": self.results.get("checkpoint")}
        settings = identity.keys_in_force(
            strip_local_paths(self)["config"], identity.KEYS_NOT_AFFECTING_METRICS
        )
        # A precision that the machine chose is the same as one that the recipe names.
        if settings.get("model.dtype") == "auto" and self.results.get("dtype"):
            settings["model.dtype"] = self.results["dtype"]
        return settings

    def values(self) -> dict[str, float | None]:
        """Returns the metrics; the keys of `map` are map@0.1 … map@0.5."""
        values: dict[str, float | None] = {}
        for key, value in self.results.items():
            if key in ("seed", "step"):
                continue

            # Expands the list `map` to one value per IoU.
            if key == "map":
                for iou, ap in zip(IOUS, value or [None] * len(IOUS), strict=True):
                    values[f"map@{iou}"] = None if ap is None else float(ap)
            elif value is None:
                values[key] = None
            elif isinstance(value, int | float) and not isinstance(value, bool):
                values[key] = float(value)
        return values

    def event_values(self) -> dict[str, float | None]:
        """Returns the event-level metrics as {'event_f1@0.1': value}, {} without any."""
        events = self.results.get("events")
        return event_values(events) if events else {}


def read_run(path: str | os.PathLike) -> Run:
    """Reads a workdir, or a file that `collect` wrote.

    Raises:
      InputError: the run is not finished, or one of its files has another shape.
    """
    # Imported here: pydantic slows down --help.
    from wsvad_jax.results.schema import RunAbout, read_as

    path = pathlib.Path(path)
    if not path.is_dir():
        return _read_collected(path)

    if not (path / "results.json").is_file():
        raise InputError(
            f"{path}: no results.json here, so this run is not finished; give the "
            "command that started it again"
        )

    # Older versions wrote no run.json, and scored weights have no config.json.
    results = read_json(path / "results.json")
    config = about = None
    if (path / "config.json").is_file():
        config = read_config(path / "config.json")
    if (path / "run.json").is_file():
        about = read_as(RunAbout, path / "run.json")
    elif (path / run_data.FILE).is_file():
        about = {"dataset": run_data.read(path).get("content")}
    return _checked_run(path, results, config, about)


def _read_collected(path: pathlib.Path) -> Run:
    from wsvad_jax.results.schema import CollectedRun, RunAbout, read_as
    from wsvad_jax.utils.json_shapes import check_shape

    content = read_as(
        CollectedRun,
        path,
        "expected a run that report --collect wrote, with the keys results and config",
    )

    # Each section is checked as the file that it was copied from.
    config, about = content.get("config"), content.get("run")
    if config is not None:
        config = check_config(config, str(path))
    if about is not None:
        check_shape(RunAbout, about, f"{path}: run")
    return _checked_run(path, content["results"], config, about)


def _checked_run(
    path: pathlib.Path,
    results: Any,
    config: Mapping[str, Any] | None,
    about: Mapping[str, Any] | None,
) -> Run:
    """Returns a run whose results have the right shape and fit its config."""
    from wsvad_jax.results.schema import Results
    from wsvad_jax.utils.json_shapes import check_shape

    check_shape(Results, results, f"{path}: results", "score the run again")

    # Converted weights were trained elsewhere, even if a config.json is beside them.
    if results.get("selection") == "converted":
        return Run(path, results, None, about)

    # Results copied from another run would be shown under a wrong name.
    if config is not None:
        pairs = {"model": "model_name", "seed": "seed", "protocol": "protocol"}
        for key, name in pairs.items():
            if config.get(name) != results[key]:
                raise InputError(
                    f"{path}: its results are of {key} {results[key]!r}, its config "
                    f"says {config.get(name)!r}; score the workdir's own model again"
                )
        if results["protocol"] not in old_keys.PROTOCOLS:
            raise InputError(
                f"{path}: protocol must be one of {', '.join(old_keys.PROTOCOLS)}, found "
                f"{results['protocol']!r}"
            )
    return Run(path, results, config, about)


def find_runs(
    paths: Iterable[str | os.PathLike],
) -> tuple[list[Run], list[dict[str, Any]], list[pathlib.Path]]:
    """Reads the runs in folders, and in folders of folders.

    Args:
      paths: workdirs, collected runs, or folders of them.

    Returns:
      Finished runs, each once; summaries of seeds (`wsvad_jax.results.seeds`);
      workdirs that are not finished.

    Raises:
      InputError: a path is missing, not finished, or holds no run.
    """
    from wsvad_jax.results.schema import read_summary

    runs: dict[pathlib.Path, Run] = {}  # by resolved path, since folders may overlap
    summaries: list[dict[str, Any]] = []
    unfinished: list[pathlib.Path] = []
    for top in map(pathlib.Path, paths):
        if not top.exists():
            raise InputError(f"{top}: no such run or folder of runs")
        if top.is_file() and top.name == "results.json":
            top = top.parent

        # A run given directly must be finished. Unfinished runs in a folder are returned.
        if top.is_file() or _is_workdir(top):
            runs.setdefault(top.resolve(), read_run(top))
            continue

        finished = 0
        for path in _walk(top):
            if SUMMARY.fullmatch(path.name):
                summaries.append(read_summary(path))
            elif path.is_dir() and not (path / "results.json").is_file():
                unfinished.append(path)
            else:
                runs.setdefault(path.resolve(), read_run(path))
                finished += 1
        if not finished:
            raise InputError(f"{top}: found no finished run in this folder")
    return list(runs.values()), summaries, unfinished


def _is_workdir(path: pathlib.Path) -> bool:
    return any((path / n).is_file() for n in ("results.json", "config.json"))


def _walk(top: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the workdirs, collected runs and summaries below a folder."""
    for name, subfolders, files in os.walk(top):
        folder = pathlib.Path(name)
        subfolders.sort()
        if _is_workdir(folder):
            subfolders.clear()  # checkpoints hold thousands of files
            yield folder
            continue

        for file in sorted(files):
            scored = folder.name == "scored" and SCORED.fullmatch(file)
            if scored or COLLECTED.fullmatch(file) or SUMMARY.fullmatch(file):
                yield folder / file


def strip_local_paths(run: Run) -> dict[str, Any]:
    """Returns {'results', 'config', 'run'} of a run without paths of this machine."""
    content = {
        "results": without_folders(run.results),
        "config": without_folders(run.config) if run.config else None,
    }
    if config := content["config"]:
        config.pop("seeds", None)
        config["data"] = {**config["data"], "name": run.dataset}
    if run.about:
        content["run"] = without_folders(run.about)
    return content


def without_folders(value: Any) -> Any:
    """Returns a JSON value with paths reduced to their last component."""
    if isinstance(value, Mapping):
        return {k: without_folders(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(v) for v in value]
    if isinstance(value, str) and (
        value.startswith(("/", "~", "./", "../"))
        or pathlib.PureWindowsPath(value).is_absolute()
    ):
        return pathlib.PureWindowsPath(value).name  # it parses both kinds of slashes
    return value


def collect(
    runs: Sequence[Run],
    folder: str | os.PathLike,
    summaries: Sequence[Mapping[str, Any]] = (),
) -> list[pathlib.Path]:
    """Writes runs to FOLDER/DATASET/MODEL/PROTOCOL/seedN.json; replaces older files.

    Args:
      runs: finished runs.
      folder: folder of the collected runs.
      summaries: contents of summary.json files, each written beside its seeds.

    Returns:
      The written files, without curves.

    Raises:
      InputError: two runs have the same file name.
    """
    # All names are checked before the first file is written.
    files: dict[pathlib.Path, Mapping[str, Any]] = {}
    sources: dict[pathlib.Path, Run] = {}
    for run in runs:
        name = f"seed{run.seed}"
        if not run.protocol:  # many files of released weights may share a seed
            name = pathlib.PurePath(str(run.results.get("checkpoint"))).stem
        protocol = run.protocol or "scored"
        path = _collected_path(folder, run.dataset, run.model, protocol, name)
        if path in files:
            raise InputError(
                f"{sources[path].source} and {run.source} are both seed {run.seed} of "
                f"{run.model} on {run.dataset}; collect one of them"
            )
        files[path], sources[path] = strip_local_paths(run), run

    # Only summaries whose runs are exported.
    for summary in summaries:
        names = (summary["dataset"], summary["model"], summary["protocol"])
        path = _collected_path(folder, *names, "summary")
        if any(p.parent == path.parent for p in files):
            files[path] = summary

    for path, content in files.items():
        write_json(path, content)
    for path, run in sources.items():
        if run.curves_path.is_file() and run.source != path:
            curves = read_json(run.curves_path)
            write_json(path.with_suffix(".curves.json"), curves, indent=None)

    return list(files)


def _collected_path(folder: str | os.PathLike, *names: str) -> pathlib.Path:
    # Names come from files of others and must not leave the folder.
    safe = [re.sub(r"[^\w.+-]|^\.+", "_", str(name))[:80] for name in names]
    return pathlib.Path(folder).joinpath(*safe[:-1], f"{safe[-1]}.json")
