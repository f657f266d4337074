"""Writes MODEL_CARD.md, which training leaves in its workdir."""

import importlib.resources
import pathlib
import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wsvad_jax.results.results_table import NAMES
from wsvad_jax.utils.files import read_json, write_text
from wsvad_jax.utils.text import percent

if TYPE_CHECKING:
    from wsvad_jax.data.records import FeatureProtocol
    from wsvad_jax.experiment.build import Experiment

CLEAN = (
    "The test set was not looked at before these weights were chosen (protocol clean)."
)
PAPER = (
    "The test set picked these weights (protocol paper), as in the released code. The "
    "numbers are higher than on unseen videos, and don't compare with those of protocol "
    "clean."
)
QUICK = (
    "A quick look (`train --quick`): the training was stopped far from its end, and the "
    "numbers don't compare with those of a full training. The test set was not looked at "
    "before these weights were chosen."
)
UNKNOWN = "The dataset's owner states no licence here; ask before you publish results."


def write(
    path: pathlib.Path,
    experiment: "Experiment",
    meta: Mapping[str, Any],
    results: Mapping[str, Any],
) -> None:
    """Writes the card of a trained model.

    Args:
      path: file to write.
      experiment: opened recipe that was trained.
      meta: content of the model folder's meta.json.
      results: content of results.json.
    """
    dataset, made = experiment.dataset, experiment.dataset.protocol
    versions, protocol = results["versions"], experiment.config.protocol

    # Names are from a user's files: they must not become markup.
    text = string.Template(_template()).substitute(
        model=meta["model"],
        dataset=_plain(dataset.card.name),
        paper=experiment.spec.citation,
        content=dataset.content[:16],
        features=f"{_plain(made.encoder)}, {dataset.width} wide, {made.stride} frames per "
        f"snippet, crops {made.crops}, frame {made.frame}, resize {made.resize}"
        f"{_settings(made)}",
        classes=", ".join(map(_plain, dataset.card.class_names)),
        protocol=protocol,
        selection=meta["selection"],
        step=meta["step"],
        seed=experiment.config.seed,
        versions=", ".join(f"{name} {v}" for name, v in versions.items()),
        device=results["device"],
        metrics=_table(results),
        comparison={"paper": PAPER, "quick": QUICK}.get(protocol, CLEAN),
        licence=_licence(dataset.path),
        notes=_notes(results),
    )

    write_text(path, text)


def _settings(made: "FeatureProtocol") -> str:
    """Returns the encoder's settings that differ from OpenAI's models."""
    from wsvad_jax.data import feature_protocols

    unlike = feature_protocols.unlike_openai(made.encoder_settings)
    return f"; {_plain(unlike)}" if unlike else ""


def _notes(results: Mapping[str, Any]) -> str:
    """Returns the warnings that stand before the numbers, one paragraph per warning."""
    warnings = []
    if note := results.get("clip_note"):
        warnings.append(f"**{note[:1].upper()}{note[1:]}.**\n\n")
    if differs := results.get("forced"):
        warnings.append(
            f"**Scored with --force on features made in another way: {differs}.**\n\n"
        )
    return "".join(map(_plain, warnings))


def _template() -> str:
    folder = importlib.resources.files("wsvad_jax").joinpath("assets")
    return folder.joinpath("model_card.md").read_text(encoding="utf-8")


def _licence(folder: pathlib.Path) -> str:
    """Returns the licence of the dataset's metadata, in a sentence."""
    info = read_json(folder / "dataset_info.json")
    licence = info.get("redistributionInfo", {}).get("license", "")
    return f"{licence.rstrip('.')}." if licence else UNKNOWN


def _table(results: Mapping[str, Any]) -> str:
    rows = ["| metric | % |", "|---|---:|"]
    for key, name in NAMES.items():
        value = results.get(key)
        if isinstance(value, float):
            rows.append(f"| {name} | {percent(value)} |")
    return "\n".join(rows)


def _plain(name: str) -> str:
    """Escapes a name from a user's file, so that it is neither column nor markup."""
    return name.replace("|", "\\|").replace("<", "&lt;")
