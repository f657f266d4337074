"""Finished runs on disk: found, read, told apart, freed of machine paths.

A run is a workdir with results.json and config.json; a collected run is both in one
file, FOLDER/DATASET/MODEL/PROTOCOL/seedN.json, without the paths of the machine that it
ran on, so that it can be committed. What `evaluate --checkpoint` left has no
config.json: its weights came from elsewhere.
"""

import dataclasses
import os
import pathlib
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wsvad_jax.errors import InputError
from wsvad_jax.files import read_json, write_json

REQUIRED = ("model", "dataset", "seed", "protocol", "auc")
TEXTS = ("model", "dataset", "protocol", "selection", "checkpoint", "device")
IOUS = ("0.1", "0.2", "0.3", "0.4", "0.5")
# Keys of a recipe that don't change what its numbers mean.
IRRELEVANT = (
    "seed",
    "seeds",
    "checkpoint_every",
    "data.name",
    "data.placement",
    "eval.batch_size",
)
COLLECTED = re.compile(r"seed\d+\.json")
SUMMARY = re.compile(r"summary\.json|.+-seeds\.json")


@dataclasses.dataclass(frozen=True)
class Run:
    """The numbers of one run and the recipe that gave them."""

    source: pathlib.Path  # its folder, or its file where it is a collected one
    results: Mapping[str, Any]
    config: Mapping[str, Any] | None  # None: scored here, not trained here

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
    def weights(self) -> str:
        """Says in words where the weights came from and what picked them."""
        selection = self.results.get("selection") or "selection unknown"
        if not self.config:
            return f"scored here: {self.results.get('checkpoint')}, {selection}"
        if self.protocol == "paper" and selection != "last weights":
            selection = "selected on test"
        if self.results.get("without_place"):
            selection += ", scores without place"
        return f"trained here, {self.protocol}: {selection}"

    def settings(self) -> dict[str, Any]:
        """Returns the recipe's keys that bear on the numbers, as {'a.b': value}."""
        if not self.config:
            return {"checkpoint": self.results.get("checkpoint")}
        unused = {"clean": "paper.", "paper": "clean."}[self.protocol]
        flat = flatten(portable(self)["config"])
        return {
            k: v
            for k, v in flat.items()
            if k not in IRRELEVANT and not k.startswith(unused)
        }

    def values(self) -> dict[str, float | None]:
        """Returns the metrics, `map` as map@0.1 … map@0.5."""
        found: dict[str, float | None] = {}
        for key, value in self.results.items():
            if key in ("seed", "step"):
                continue
            if key == "map":
                each = value or [None] * len(IOUS)
                found |= {f"map@{x}": v for x, v in zip(IOUS, each, strict=True)}
            elif value is None:
                found[key] = None
            elif isinstance(value, int | float):
                found[key] = float(value)
        return found


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a nested dict as {'a.b': value}, tuples as lists."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def read_run(path: str | os.PathLike) -> Run:
    """Reads a workdir, or a file that `collect` wrote.

    Raises:
      InputError: nothing finished is there, or not what training and scoring write.
    """
    path = pathlib.Path(path)
    config = None
    if path.is_dir():
        if not (path / "results.json").is_file():
            raise InputError(
                f"{path}: no results.json here, so this run is not finished; give the "
                "command that started it again"
            )
        results = read_json(path / "results.json")
        if (path / "config.json").is_file():
            config = read_config(path / "config.json")
    else:
        content = read_json(path)
        if not isinstance(content, dict) or "results" not in content:
            raise InputError(
                f"{path}: expected a run that report --collect wrote, with the keys "
                "results and config"
            )
        results, config = content["results"], content.get("config")
        if config is not None:
            check_config(config, str(path))
    return _checked(path, results, config)


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """Reads the config.json of a workdir.

    Raises:
      InputError: no such file, or one that training did not write.
    """
    config = read_json(path)
    check_config(config, str(path))
    return config


def check_config(config: Any, source: str) -> None:
    """Raises InputError for what is no recipe's settings; `source` names them."""
    known = config if isinstance(config, dict) else {}
    data = known.get("data")
    dataset = data.get("name") if isinstance(data, dict) else None
    named = (known.get("model_name"), known.get("protocol"), dataset)
    if not all(isinstance(name, str) for name in named) or not _plain(known):
        raise InputError(
            f"{source}: expected the settings of a training, with the keys model_name, "
            "protocol and data.name"
        )


def _plain(tree: Mapping[str, Any], depth: int = 8) -> bool:
    """Whether keys are names, `depth` below each other at most."""
    return depth > 0 and all(
        "." not in key and (not isinstance(value, dict) or _plain(value, depth - 1))
        for key, value in tree.items()
    )


def _checked(path, results, config) -> Run:
    missing = [k for k in REQUIRED if not isinstance(results, dict) or k not in results]
    if missing:
        raise InputError(
            f"{path}: its results lack the key {missing[0]!r}; score again"
        )
    for key, value in results.items():
        if not _fits(key, value):
            raise InputError(
                f"{path}: its results hold {key} {value!r:.60}, which scoring doesn't "
                "write; score again"
            )
    if results.get("selection") == "converted":
        return Run(path, results, None)
    if config is not None:
        pairs = {"model": "model_name", "seed": "seed", "protocol": "protocol"}
        for key, name in pairs.items():
            if config.get(name) != results[key]:
                raise InputError(
                    f"{path}: its results are of {key} {results[key]!r}, its recipe "
                    f"says {config.get(name)!r}; score the workdir's own model again"
                )
        if results["protocol"] not in ("clean", "paper"):
            raise InputError(
                f"{path}: protocol {results['protocol']!r}, expected clean or paper"
            )
    return Run(path, results, config)


def _fits(key: str, value: Any) -> bool:
    """Whether a value is of the kind that results.json has under `key`."""
    if key in ("seed", "step"):
        return type(value) is int and value >= 0 or (key == "step" and value is None)
    if key == "map":
        return value is None or _numbers(value, len(IOUS))
    if key in TEXTS:
        return isinstance(value, str) and value.isprintable()
    return value is None or isinstance(value, bool | str | dict) or _is_number(value)


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < 1e15  # finite


def read_summary(path: pathlib.Path) -> dict[str, Any]:
    """Reads what a study of seeds left (`wsvad_jax.study`).

    Raises:
      InputError: no such file.
    """
    value = read_json(path)
    known = value if isinstance(value, dict) else {}
    seeds, metrics = known.get("seeds"), known.get("metrics")
    named = all(isinstance(known.get(k), str) for k in ("dataset", "model", "protocol"))
    numbered = isinstance(seeds, list) and all(type(s) is int for s in seeds)
    if not named or not numbered or not isinstance(metrics, dict):
        raise InputError(f"{path}: expected the summary of a study of seeds")
    for name, metric in metrics.items():
        found = metric if isinstance(metric, dict) else {}
        interval = found.get("interval") or [0, 0]
        good = _numbers(found.get("seeds"), len(seeds)) and _numbers(interval, 2)
        if not good or None in interval:
            raise InputError(
                f"{path}: {name} lacks a number of each seed or an interval [low, "
                "high]; make the summary again with train --seeds"
            )
    return value


def _numbers(value: Any, count: int) -> bool:
    """Whether `value` lists `count` numbers, some of which may be unknown."""
    return (
        isinstance(value, list)
        and len(value) == count
        and all(v is None or _is_number(v) for v in value)
    )


def find_runs(
    paths: Iterable[str | os.PathLike],
) -> tuple[list[Run], list[dict[str, Any]], list[pathlib.Path]]:
    """Finds runs in folders, and in folders of folders.

    Returns:
      The finished runs, each once; the summaries of seed studies that lie beside them
      (`wsvad_jax.study`); the workdirs that are not finished.

    Raises:
      InputError: a path that is missing, not finished, or holds no run.
    """
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
            scored = here.name == "scored" and name.endswith(".json")
            if scored or COLLECTED.fullmatch(name) or SUMMARY.fullmatch(name):
                yield here / name


def portable(run: Run) -> dict[str, Any]:
    """Returns {'results', 'config'} of a run without paths of this machine."""
    results = _without_paths(dict(run.results))
    config = _without_paths(dict(run.config)) if run.config else None
    if config:
        config.pop("seeds", None)
        config["data"] = {**config["data"], "name": run.dataset}
    return {"results": results, "config": config}


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
    runs: Sequence[Run], folder: str | os.PathLike, summaries: Sequence[dict] = ()
) -> list[pathlib.Path]:
    """Writes runs to FOLDER/DATASET/MODEL/PROTOCOL/seedN.json, without paths.

    A study's summary lies beside its seeds, as summary.json. What was collected
    earlier under the same name is replaced.

    Raises:
      InputError: two of the runs would have one name.
    """
    files: dict[pathlib.Path, dict[str, Any]] = {}
    sources: dict[pathlib.Path, pathlib.Path] = {}
    for run in runs:
        name = f"seed{run.seed}"
        if not run.protocol:
            name = pathlib.PurePath(str(run.results.get("checkpoint"))).stem
        path = _place(folder, run.dataset, run.model, run.protocol or "scored", name)
        if path in files:
            raise InputError(
                f"{sources[path]} and {run.source} are both seed {run.seed} of "
                f"{run.model} on {run.dataset}; collect one of them"
            )
        files[path], sources[path] = portable(run), run.source
    for summary in summaries:
        names = (summary["dataset"], summary["model"], summary["protocol"])
        path = _place(folder, *names, "summary")
        if any(p.parent == path.parent for p in files):
            files[path] = summary
    for path, content in files.items():
        write_json(path, content)
    return list(files)


def _place(folder, *names: str) -> pathlib.Path:
    safe = [re.sub(r"[^\w.+-]|^\.+", "_", str(name))[:80] for name in names]
    return pathlib.Path(folder).joinpath(*safe[:-1], f"{safe[-1]}.json")


def spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Returns mean and sample standard deviation (n − 1), None where undefined."""
    numbers = [v for v in values if v is not None]
    if not numbers or len(numbers) < len(values):
        return None, None
    deviation = statistics.stdev(numbers) if len(numbers) > 1 else None
    return statistics.fmean(numbers), deviation


def percent(mean: float | None, std: float | None = None) -> str:
    """Returns '72.29 ± 0.07' of fractions, '' where undefined."""
    if mean is None:
        return ""
    return f"{100 * mean:.2f}" + (f" ± {100 * std:.2f}" if std is not None else "")
