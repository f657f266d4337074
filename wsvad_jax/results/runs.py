"""Finished runs on disk: found, read, told apart, freed of machine paths.

A run is a workdir with results.json, config.json and run.json; a collected run is all
three in one file, FOLDER/DATASET/MODEL/PROTOCOL/seedN.json, without the paths of the
machine that it ran on, so that it can be committed, with its curves in
seedN.curves.json. What `evaluate --checkpoint` left has no config.json: its weights came
from elsewhere.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wsvad_jax.experiment.saved_config import check_config, read_config
from wsvad_jax.results import run_data
from wsvad_jax.results.results_table import IOUS
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json
from wsvad_jax.utils.text import flatten

# Keys of a recipe that don't change what its numbers mean.
KEYS_NOT_AFFECTING_METRICS = (
    "seed",
    "seeds",
    "checkpoint_every",
    "data.name",
    "data.placement",
    "eval.batch_size",
    "data.parts",
    "model.remat",
)
SCORED = re.compile(r".+(?<!\.curves)\.json")
COLLECTED = re.compile(r"seed\d+\.json")
SUMMARY = re.compile(r"summary\.json|.+-seeds\.json")


@dataclasses.dataclass(frozen=True)
class Run:
    """The numbers of one run and the recipe that gave them."""

    source: pathlib.Path  # its folder, or its file where it is a collected one
    results: Mapping[str, Any]
    config: Mapping[str, Any] | None  # None: scored here, not trained here
    about: Mapping[str, Any] | None = None  # of `wsvad_jax.training.provenance`

    @property
    def curves_path(self) -> pathlib.Path:
        """Where its curves lie, if anywhere (`wsvad_jax.metrics.curves`)."""
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
        """'clean' or 'paper'; '' for weights that were not trained here."""
        return self.results["protocol"] if self.config else ""

    @property
    def content(self) -> str:
        """The hash of the dataset that it was trained or scored on, "" unknown."""
        found = (self.about or {}).get("dataset")
        return found if isinstance(found, str) else ""

    @property
    def weights_description(self) -> str:
        """Says in words where the weights came from and what picked them."""
        selection = self.results.get("selection") or "selection unknown"
        if not self.config:
            return f"scored here: {self.results.get('checkpoint')}, {selection}"
        if self.protocol == "paper" and selection != "last weights":
            selection = "selected on test"
        if self.results.get("without_place"):
            selection += ", position bias removed"
        return f"trained here, {self.protocol}: {selection}"

    def settings(self) -> dict[str, Any]:
        """Returns the recipe's keys that bear on the numbers, as {'a.b': value}."""
        if not self.config:
            return {"checkpoint": self.results.get("checkpoint")}
        unused = {"clean": "paper.", "paper": "clean."}[self.protocol]
        flat = flatten(strip_local_paths(self)["config"])
        return {
            k: v
            for k, v in flat.items()
            if k not in KEYS_NOT_AFFECTING_METRICS and not k.startswith(unused)
        }

    def values(self) -> dict[str, float | None]:
        """Returns the metrics, `map` as map@0.1 … map@0.5."""
        found: dict[str, float | None] = {}
        for key, value in self.results.items():
            if key in ("seed", "step"):
                continue
            if key == "map":
                each = [
                    v if v is None else float(v) for v in value or [None] * len(IOUS)
                ]
                found |= {f"map@{x}": v for x, v in zip(IOUS, each, strict=True)}
            elif value is None:
                found[key] = None
            elif isinstance(value, int | float) and not isinstance(value, bool):
                found[key] = float(value)
        return found


def read_run(path: str | os.PathLike) -> Run:
    """Reads a workdir, or a file that `collect` wrote.

    Raises:
      InputError: the run is not finished, or one of its files has another shape.
    """
    # pydantic takes a fifth of a second, which --help does without.
    from wsvad_jax.results.schema import RunAbout, read_as

    path = pathlib.Path(path)
    if not path.is_dir():
        return _read_collected(path)

    if not (path / "results.json").is_file():
        raise InputError(
            f"{path}: no results.json here, so this run is not finished; give the "
            "command that started it again"
        )
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
    config, about = content.get("config"), content.get("run")
    if config is not None:
        check_config(config, str(path))
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
        if results["protocol"] not in ("clean", "paper"):
            raise InputError(
                f"{path}: protocol must be clean or paper, found "
                f"{results['protocol']!r}"
            )
    return Run(path, results, config, about)


def find_runs(
    paths: Iterable[str | os.PathLike],
) -> tuple[list[Run], list[dict[str, Any]], list[pathlib.Path]]:
    """Finds runs in folders, and in folders of folders.

    Returns:
      The finished runs, each once; the summaries of seed studies that lie beside them
      (`wsvad_jax.results.seeds`); the workdirs that are not finished.

    Raises:
      InputError: a path that is missing, not finished, or holds no run.
    """
    from wsvad_jax.results.schema import read_summary

    runs: dict[pathlib.Path, Run] = {}
    summaries: list[dict[str, Any]] = []
    unfinished: list[pathlib.Path] = []
    for given in map(pathlib.Path, paths):
        if not given.exists():
            raise InputError(f"{given}: no such run or folder of runs")
        if given.is_file() and given.name == "results.json":
            given = given.parent
        if given.is_file() or _is_workdir(given):
            runs.setdefault(given.resolve(), read_run(given))
            continue
        empty = True
        for found in _walk(given):
            if SUMMARY.fullmatch(found.name):
                summaries.append(read_summary(found))
            elif found.is_dir() and not (found / "results.json").is_file():
                unfinished.append(found)
            else:
                runs.setdefault(found.resolve(), read_run(found))
                empty = False
        if empty:
            raise InputError(f"{given}: found no finished run in this folder")
    return list(runs.values()), summaries, unfinished


def _is_workdir(path: pathlib.Path) -> bool:
    return any((path / n).is_file() for n in ("results.json", "config.json"))


def _walk(top: pathlib.Path) -> Iterable[pathlib.Path]:
    for folder, subfolders, names in os.walk(top):
        here = pathlib.Path(folder)
        subfolders.sort()
        if _is_workdir(here):
            subfolders.clear()  # checkpoints hold thousands of files
            yield here
            continue
        for name in sorted(names):
            scored = here.name == "scored" and SCORED.fullmatch(name)
            if scored or COLLECTED.fullmatch(name) or SUMMARY.fullmatch(name):
                yield here / name


def strip_local_paths(run: Run) -> dict[str, Any]:
    """Returns {'results', 'config', 'run'} of a run without paths of this machine."""
    results = _without_paths(dict(run.results))
    config = _without_paths(dict(run.config)) if run.config else None
    if config:
        config.pop("seeds", None)
        config["data"] = {**config["data"], "name": run.dataset}
    about = {"run": _without_paths(dict(run.about))} if run.about else {}
    return {"results": results, "config": config, **about}


def _without_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_paths(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(v) for v in value]
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
    """Writes runs to FOLDER/DATASET/MODEL/PROTOCOL/seedN.json, without paths.

    A study's summary lies beside its seeds, as summary.json. What was collected
    earlier under the same name is replaced.

    Raises:
      InputError: two of the runs would have one name.
    """
    files: dict[pathlib.Path, Mapping[str, Any]] = {}
    sources: dict[pathlib.Path, Run] = {}
    for run in runs:
        name = f"seed{run.seed}"
        if not run.protocol:
            name = pathlib.PurePath(str(run.results.get("checkpoint"))).stem
        path = _place(folder, run.dataset, run.model, run.protocol or "scored", name)
        if path in files:
            raise InputError(
                f"{sources[path].source} and {run.source} are both seed {run.seed} of "
                f"{run.model} on {run.dataset}; collect one of them"
            )
        files[path], sources[path] = strip_local_paths(run), run
    for summary in summaries:
        names = (summary["dataset"], summary["model"], summary["protocol"])
        path = _place(folder, *names, "summary")
        if any(p.parent == path.parent for p in files):
            files[path] = summary
    for path, content in files.items():
        write_json(path, content)
    for path, run in sources.items():
        if run.curves_path.is_file() and run.source != path:
            copied = path.with_suffix(".curves.json")
            write_json(copied, read_json(run.curves_path), indent=None)
    return list(files)


def _place(folder, *names: str) -> pathlib.Path:
    safe = [re.sub(r"[^\w.+-]|^\.+", "_", str(name))[:80] for name in names]
    return pathlib.Path(folder).joinpath(*safe[:-1], f"{safe[-1]}.json")
