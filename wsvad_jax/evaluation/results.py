"""Scores a test set and writes results.json, scores.npz and pictures."""

import os
import pathlib
import platform
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax.evaluation.base_novel_results import (
    results_of_groups,
    with_base_classes_of_model,
)
from wsvad_jax.evaluation.event_rules import DEFAULT_RULES, EventRules
from wsvad_jax.evaluation.score_file import write_scores
from wsvad_jax.experiment.identity import (
    comparable_config,
    first_difference,
    keys_in_force,
)
from wsvad_jax.experiment.saved_config import read_config
from wsvad_jax.results.runs import NOT_TRAINED
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import write_json

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.experiment.build import Experiment
    from wsvad_jax.metrics.frame_level import EvalVideo


PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def evaluate_model(
    config: "ConfigDict",
    checkpoint: str | os.PathLike | None,
    workdir: pathlib.Path,
    data_dir: str | None = None,
    *,
    force: bool = False,
    card: pathlib.Path | None = None,
    rules: EventRules = DEFAULT_RULES,
    fps: float | None = None,
) -> dict[str, Any]:
    """Scores the recipe's test set with the model in `checkpoint`.

    Returns the content of `workdir`/results.json.

    Args:
      config: recipe.
      checkpoint: model folder, workdir of training, or USER/NAME[@REVISION] of the
        Hugging Face hub; None for a model without weights.
      workdir: folder for the results.
      data_dir: folder of prepared datasets.
      force: whether other features or prompts than the training's are accepted; the
        results then name the difference under `forced`.
      card: card.json whose prompts replace the training's; the results then say so
        under `other_words`.
      rules: what counts as an event.
      fps: frames per second of test videos whose rate nothing else states.

    Raises:
      InputError: a model of another recipe, shapes that don't fit, or features made in
        another way than those of the training, or a card that doesn't fit the dataset.
    """
    from wsvad_jax.evaluation.scorer import Scorer, score_split
    from wsvad_jax.experiment import other_words
    from wsvad_jax.experiment.build import check_params, open_experiment
    from wsvad_jax.parallel import multihost
    from wsvad_jax.results import run_data
    from wsvad_jax.weights.hub_model import load_checkpoint

    if checkpoint is None:
        if card is not None:
            raise InputError(
                f"--card {card} gives a trained model other words; {config.model_name} "
                "reads those of the dataset's card, in the recipe's templates"
            )
        return _evaluate_untrained(config, workdir, data_dir, force, rules, fps)
    folder, params, batch_stats, meta = load_checkpoint(checkpoint)
    if meta["model"] != config.model_name:
        raise InputError(
            f"{checkpoint} holds a {meta['model']} model, but the recipe is for "
            f"{config.model_name}; pass the recipe that it was trained with"
        )

    # A converted file comes with the text tower that it was trained with.
    opened = open_experiment(with_own_clip(config, folder / "clip"), data_dir)
    experiment, unnamed = with_base_classes_of_model(opened, meta, checkpoint), ()
    if card is not None:
        other_words.check_reads_text(experiment.spec, f"--card {card}")
        words = other_words.read_words(card, experiment.dataset.card)
        experiment, unnamed = other_words.with_other_words(experiment, words)
        meta |= _notes_on_words(meta, unnamed)

    # All checks come before the scoring, which may take hours.
    data = run_data.describe(experiment.dataset, experiment.text_tower_id)
    if trained_here := (workdir / "config.json").is_file():
        check_data(workdir, data, folder)
    check_params(experiment, params, str(checkpoint))
    forced = _check_protocol(experiment, meta, folder, force)

    scorer = Scorer(experiment)
    videos = score_split(experiment, scorer, params, batch_stats, with_baseline=True)
    videos = other_words.with_unnamed(videos, len(unnamed))
    if not trained_here and multihost.is_process_zero():
        write_json(workdir / run_data.FILE, data)
    meta |= {"forced": forced}
    lines = _lines_of_training(workdir, folder)
    return write_results(experiment, videos, workdir, meta, lines, rules=rules, fps=fps)


def _lines_of_training(
    workdir: pathlib.Path, folder: pathlib.Path
) -> list[dict[str, Any]]:
    """Returns the lines of metrics.jsonl, if the model in `folder` was trained here."""
    from wsvad_jax.results.history import read_history

    its_own = folder.resolve() == (workdir / "model").resolve()
    return read_history(workdir) if its_own else []


def with_own_clip(config: "ConfigDict", clip: pathlib.Path) -> "ConfigDict":
    """Returns a recipe whose text tower is in the folder `clip`, if there is one."""
    if "clip" not in config or not (clip / "vocab.json").is_file():
        return config
    config = config.copy_and_resolve_references()  # the caller's stays as it is
    config.clip = str(clip)
    return config


def _notes_on_words(meta: dict[str, Any], unnamed: Sequence[str]) -> dict[str, Any]:
    """Returns the notes of results.json on other class words; prints them."""
    from wsvad_jax.experiment.other_words import WARNING, unnamed_note

    notes = [note for note in (WARNING, unnamed_note(unnamed)) if note]
    for note in notes:
        print(f"note: {note}", file=sys.stderr)

    # Tables show the selection, so these numbers are not taken for the training's.
    selection = ", ".join(filter(None, (meta.get("selection"), "other class words")))
    return {"other_words": "; ".join(notes), "selection": selection}


def _evaluate_untrained(
    config: "ConfigDict",
    workdir: pathlib.Path,
    data_dir: str | None,
    force: bool,
    rules: EventRules,
    fps: float | None,
) -> dict[str, Any]:
    """Scores the test set with a model without weights; see `evaluate_model`.

    The workdir also gets the recipe, by which tables tell such runs from each other.
    """
    from wsvad_jax.evaluation.scorer import Scorer, score_split
    from wsvad_jax.experiment.build import get_model_spec, open_experiment
    from wsvad_jax.parallel import multihost
    from wsvad_jax.results import run_data

    # All checks come before the scoring.
    if get_model_spec(config).is_trained:
        raise InputError(
            f"{config.model_name} is trained; pass --checkpoint with its model folder"
        )
    if force:
        raise InputError(
            f"--force accepts features unlike those of a training, but "
            f"{config.model_name} has none; leave it out"
        )
    _check_same_recipe(workdir, config)
    experiment = open_experiment(config, data_dir)

    videos = score_split(experiment, Scorer(experiment), {}, {}, with_baseline=True)
    if multihost.is_process_zero():
        data = run_data.describe(experiment.dataset, experiment.text_tower_id)
        write_json(workdir / run_data.FILE, data)
        write_json(workdir / "config.json", comparable_config(config))
    meta = {"selection": NOT_TRAINED}
    return write_results(experiment, videos, workdir, meta, [], rules=rules, fps=fps)


def _check_same_recipe(workdir: pathlib.Path, config: "ConfigDict") -> None:
    """Raises InputError if the workdir holds a run of another recipe."""
    if not (workdir / "config.json").is_file():
        return
    saved = keys_in_force(read_config(workdir / "config.json"))
    if difference := first_difference(saved, keys_in_force(comparable_config(config))):
        key, old, new = difference
        raise InputError(
            f"{workdir} holds another run: its {key} is {old!r}, yours {new!r}; choose "
            "another --workdir"
        )


def _check_protocol(
    experiment: "Experiment",
    meta: dict[str, Any],
    checkpoint: pathlib.Path,
    force: bool,
) -> str:
    """Returns how features and prompts differ from the training's, where forced."""
    from wsvad_jax.data import feature_protocols
    from wsvad_jax.weights.trained_model import tower_settings_difference

    # A model for windows scores one crop, which the dataset's card names and has.
    dataset = experiment.dataset
    wanted = feature_protocols.protocol_from_json(meta.get("features"))
    crop = dataset.card.test_crop if experiment.config.eval.mode == "windows" else None
    differences = [feature_protocols.difference(dataset.protocol, wanted, crop=crop)]
    if experiment.text_tower_id:
        tower = experiment.text_tower_id
        differences.append(
            tower_settings_difference(tower["hash"], tower["settings"], meta)
        )

    differs = "; ".join(text for text in differences if text)
    if differs and not force:
        raise InputError(
            f"{dataset.path}: made in another way than the features that {checkpoint} "
            f"was trained on: {differs}; make them in that way, or pass --force"
        )
    if differs:
        print(f"--force lets in another way of making: {differs}", file=sys.stderr)
    return differs


def check_data(
    workdir: pathlib.Path, data: dict[str, Any], checkpoint: pathlib.Path
) -> None:
    """Raises InputError if `workdir` was trained on other data than is to be scored.

    Otherwise the new results would replace those of the training.
    """
    from wsvad_jax.parallel import multihost
    from wsvad_jax.results import run_data

    advice = (
        "to score its model on the data as it is now, pass --config, --checkpoint "
        f"{checkpoint} and another --workdir"
    )
    if not run_data.check(workdir, data, advice) and multihost.is_process_zero():
        print(
            f"{workdir} doesn't say which data it was trained on; nothing was compared",
            file=sys.stderr,
        )


def write_results(
    experiment: "Experiment",
    videos: Sequence["EvalVideo"],
    workdir: pathlib.Path,
    meta: dict[str, Any],
    history: Sequence[dict[str, Any]],
    *,
    rules: EventRules = DEFAULT_RULES,
    fps: float | None = None,
) -> dict[str, Any]:
    """Writes results.json, scores.npz and report.png; prints the table.

    Args:
      experiment: opened recipe that scored the videos.
      videos: scored test set.
      workdir: folder for the files.
      meta: model's `step`, `selection`, and `forced`, differences that --force let in.
      history: lines of metrics.jsonl, for the loss curves.
      rules, fps: as `evaluate_model` takes them.

    Only the first of several processes writes; the others wait, and return {}.
    """
    from wsvad_jax.evaluation import event_results, model_card, plots
    from wsvad_jax.metrics.curves import curves
    from wsvad_jax.parallel import multihost
    from wsvad_jax.results.event_table import event_table
    from wsvad_jax.results.results_table import results_table

    if not multihost.is_process_zero():
        multihost.sync_processes("results")
        return {}

    # Numbers, then scores, curves and pictures.
    config, card = experiment.config, experiment.dataset.card
    split = experiment.dataset.split("test")
    found = event_results.split_events(split, videos, card, rules, fps)
    results = results_of(experiment, videos, meta)
    results["events"] = event_results.event_results(
        split, videos, card, rules, fps, found
    )
    write_scores(workdir / "scores.npz", videos, found)
    write_json(
        workdir / "curves.json",
        curves(videos, card.class_names, card.stride),
        indent=None,
    )
    plots.report_png(
        workdir / "report.png",
        videos,
        history,
        title=f"{config.model_name} on {card.name}, seed {config.seed}",
        class_names=card.class_names,
        stride=card.stride,
    )
    if (workdir / "model").is_dir():  # trained here
        model_card.write(workdir / "MODEL_CARD.md", experiment, meta, results)

    # Last, since a run with results is finished.
    write_json(workdir / "results.json", results)

    print(results_table(results))
    print(event_table(results["events"]))
    print(f"results.json, scores.npz and report.png are in {workdir}")
    multihost.sync_processes("results")
    return results


def results_of(
    experiment: "Experiment", videos: Sequence["EvalVideo"], meta: dict[str, Any]
) -> dict[str, Any]:
    """Returns the content of results.json but its events; see `write_results`."""
    from wsvad_jax.metrics import frame_level

    config, card = experiment.config, experiment.dataset.card

    notes = {key: meta.get(key) for key in ("forced", "other_words")}
    notes["clip_note"] = experiment.clip_note
    results = frame_level.evaluate(
        videos,
        card.class_names,
        normal_truth=config.eval.normal_truth,
        stride=card.stride,
    )
    if remarks := meta.get("remarks"):
        results["remarks"] = list(remarks)

    return results | {
        "model": config.model_name,
        "dataset": card.name,
        "seed": config.seed,
        "protocol": config.protocol,
        "selection": meta.get("selection", ""),
        "position_bias_removed": experiment.remove_position_bias,
        "checkpoint": meta.get("checkpoint", ""),
        "step": meta.get("step"),
        "versions": versions(),
        "device": device(),
        "dtype": getattr(experiment.model, "dtype", "float32"),
        **results_of_groups(experiment, videos, meta),
        **{name: text for name, text in notes.items() if text},
    }


def versions() -> dict[str, str]:
    """Returns the versions of Python, this package, and its numerical libraries."""
    from importlib.metadata import version

    from wsvad_jax import __version__

    own = {"wsvad_jax": __version__, "python": platform.python_version()}
    return own | {name: version(name) for name in PACKAGES}


def device() -> str:
    """Returns the devices in use, as 'cpu (2 × cpu)'."""
    import jax

    devices = jax.devices()
    return f"{devices[0].platform} ({len(devices)} × {devices[0].device_kind})"


def saved_config(workdir: pathlib.Path, rest: Sequence[str]) -> "ConfigDict":
    """Returns the recipe that a workdir was trained with."""
    from ml_collections import ConfigDict

    if rest:
        raise InputError(
            f"unexpected argument {rest[0]!r}; the recipe is the workdir's own, or "
            "pass --config and --checkpoint"
        )
    if not (workdir / "config.json").is_file():
        raise InputError(
            f"{workdir}: no config.json here; pass a workdir that training left, or "
            "--config and --checkpoint"
        )
    return ConfigDict(read_config(workdir / "config.json"))
