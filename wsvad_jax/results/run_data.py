"""Which data a run was trained on: noted at its start, compared when it is met again.

data.json in a workdir holds the hash of the records, the classes, how the features were
made and whose text tower read the prompts. Runs that older versions finished say most
of it in run.json and model/meta.json.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import write_json

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.data.dataset import Dataset

FILE, ABOUT = "data.json", "run.json"
CARD = ("classes", "stride", "test_crop")  # keys of a card that training depends on
# What training writes into a workdir, in the order in which a restart moves it away:
# what says whose run it is goes last.
WRITTEN = (
    *("checkpoints", "metrics.jsonl", "tensorboard", "model", "MODEL_CARD.md"),
    *("scores.npz", "curves.json", "report.png", "results.json", ABOUT),
    *(FILE, "config.json"),
)


def describe(
    dataset: "Dataset", tower: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Returns the content of data.json.

    Args:
      dataset: records, classes and feature protocol.
      tower: hash of the text tower under `hash`; None where there is none.
    """
    card = dataset.card.to_json()
    return {
        "content": dataset.content,
        "card": {key: card[key] for key in CARD},
        "features": dataclasses.asdict(dataset.protocol),
        "tower": tower["hash"] if tower else None,
    }


def prepared(config: "ConfigDict", data_dir: str | os.PathLike | None) -> "Dataset":
    """Opens a recipe's dataset, and makes none.

    Raises:
      InputError: it is not there, or can't be opened.
    """
    from wsvad_jax.data.dataset import open_dataset
    from wsvad_jax.datasets import registry

    path = registry.find(config.data.name, data_dir)
    if path is None:
        raise InputError(f"the dataset {config.data.name} is not prepared here")
    return open_dataset(path)


def read(workdir: pathlib.Path) -> dict[str, Any]:
    """Returns the data that a workdir was trained on, as `describe`; {} if unknown.

    Raises:
      InputError: one of its files has another shape.
    """
    from wsvad_jax.results.schema import ModelNotes, RunAbout, RunData, read_as

    if (workdir / FILE).is_file():
        return read_as(RunData, workdir / FILE)
    if not (workdir / ABOUT).is_file():
        return {}

    # Older versions wrote no data.json.
    about, meta = read_as(RunAbout, workdir / ABOUT), {}
    if (workdir / "model/meta.json").is_file():
        meta = read_as(ModelNotes, workdir / "model/meta.json")
    card = meta.get("card") or {}
    return {
        "content": about.get("dataset"),
        "card": {key: card[key] for key in CARD if key in card},
        "features": about.get("features"),
    }


def check(workdir: pathlib.Path, now: Mapping[str, Any], advice: str = "") -> bool:
    """Compares a workdir's data with `now`, of `describe`; False: it notes none.

    Raises:
      InputError: they differ.
    """
    before = read(workdir)
    if what := difference(before, now):
        advice = advice or (
            "choose another --workdir, or pass --restart, which keeps the old run in "
            f"{previous(workdir)} and trains from step 0"
        )
        raise InputError(f"{workdir} belongs to other data: {what}; {advice}")
    return bool(before.get("content"))


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Returns in words how the data of two runs differ, "" where nothing known does."""
    old, new = before.get("content"), now.get("content")
    if old and new and old != new:
        return (
            f"the dataset's content was {old[:12]} and is now {new[:12]} (videos, "
            "labels, truth or features changed)"
        )
    for part in ("card", "features"):
        old, new = (x.get(part) or {} for x in (before, now))
        for key in sorted(old.keys() & new.keys()):
            if not _alike(key, old[key], new[key]):
                return (
                    f"{part}.{key} was {old[key]!r:.200} and is now {new[key]!r:.200}"
                )
    old, new = before.get("tower"), now.get("tower")
    if old and new and old != new:
        return f"the prompts' text tower was {old[:12]} and is now {new[:12]}"
    return ""


def _alike(key: str, old: Any, new: Any) -> bool:
    if key == "encoder_settings" and not (old and new):
        return True  # older versions noted none
    if key != "encoder" or "unknown" in (old, new):
        return "unknown" in (old, new) or old == new
    from wsvad_jax.weights.trained_model import (
        same_encoder,  # with numpy, which reports do without
    )

    return same_encoder(new, old)


def note(workdir: pathlib.Path, data: Mapping[str, Any]) -> None:
    """Writes data.json where there is none, and what run.json says until the end."""
    if not (workdir / FILE).is_file():
        write_json(workdir / FILE, data)
    begin_about(workdir)


def begin_about(workdir: pathlib.Path) -> None:
    """Writes run.json where it is missing, from data.json; training completes it."""
    from wsvad_jax.results.schema import RunData, read_as

    if (workdir / FILE).is_file() and not (workdir / ABOUT).is_file():
        data = read_as(RunData, workdir / FILE)
        about = {"dataset": data.get("content"), "features": data.get("features")}
        write_json(workdir / ABOUT, about)


def previous(workdir: pathlib.Path) -> pathlib.Path:
    """Returns the folder that a restart would move a run to."""
    number = 1
    while (workdir / f"previous-{number}").exists():
        number += 1
    return workdir / f"previous-{number}"


def set_aside(workdir: pathlib.Path) -> pathlib.Path | None:
    """Moves all that training wrote into WORKDIR/previous-N; None: there was nothing."""
    found = [workdir / name for name in WRITTEN if (workdir / name).exists()]
    if not found:
        return None
    target = previous(workdir)
    target.mkdir()
    for path in found:
        path.rename(target / path.name)
    return target
