"""Trains a small CLIP on frames of random streets, and writes it as a snapshot.

The folder has `settings.json`, `state.msgpack` while the training is unfinished, and the
snapshot's files at the end. Each batch is a function of the seed and the step, so an
interrupted training resumes with the batches that it would have had.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import serialization
from jaxtyping import Int

from wsvad_jax.clip.prompts import token_ids
from wsvad_jax.clip.random_snapshot import END, START, byte_characters, tokenizer_files
from wsvad_jax.clip.snapshot import save_snapshot
from wsvad_jax.clip.towers import TextConfig, VisionConfig
from wsvad_jax.pretraining.captions import ALL_FACTS, Caption, caption, truth_table
from wsvad_jax.pretraining.contrastive import (
    CONTEXT,
    CaptionBatch,
    CLIPState,
    Optimisation,
    init_params,
    make_step,
)
from wsvad_jax.pretraining.frames import MARGIN, Frames, draw_frames
from wsvad_jax.pretraining.settings import PICTURE, Settings
from wsvad_jax.pretraining.tokenizer import learn_merges
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError, one_line, raise_if_unreadable
from wsvad_jax.utils.progress import Progress

SETTINGS, STATE = "settings.json", "state.msgpack"
TRAINING_NOTE = "trained on rendered streets only; it knows nothing of real video"
CAPTIONS_PER_PICTURE = 6
CONTEXT_RATE = 0.3  # share of captions with a prompt learner's vectors around them
SAVE_EVERY = 100  # steps


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """Frames, a pool of captions, and which captions each frame may draw."""

    frames: Frames
    captions: tuple[Caption, ...]  # without repetition
    of_frame: Int[np.ndarray, "N C"]  # indices of captions
    tokens: Int[np.ndarray, "K L"]
    eos: Int[np.ndarray, "K"]


def pretrain(directory: str | os.PathLike, settings: Settings) -> pathlib.Path:
    """Trains a CLIP, or resumes its training; returns the snapshot's folder.

    Args:
      directory: folder of the snapshot; created if missing.
      settings: data, sizes and optimisation.

    Raises:
      InputError: a setting is out of range, or the folder holds something else.
    """
    settings.check()
    directory = pathlib.Path(directory)
    if not _is_unfinished(directory, settings):
        print(f"{directory}: already trained with these settings")
        return directory

    # The tokenizer learns its merges from the captions, so these are drawn first.
    frames = draw_frames(settings.videos, settings.seed, settings.without)
    pool, of_frame = _draw_captions(frames, settings.seed)
    merges = learn_merges((pool[k].text for k in of_frame.ravel()), settings.merges)

    # Each byte alone and at the end of a word, the merges, and the two markers.
    vocabulary = 2 * len(byte_characters()) + len(merges) + len((START, END))
    text, vision = _towers(settings, vocabulary)
    for name, content in tokenizer_files(text.max_position_embeddings, merges).items():
        files.write_text(directory / name, content)

    tokens, eos = token_ids([c.text for c in pool], directory, text)
    data = TrainingSet(frames, pool, of_frame, tokens, eos)

    params = _train(data, text, vision, settings, directory / STATE)
    save_snapshot(
        directory,
        text,
        vision,
        jax.tree.map(np.asarray, params),
        tokenizer=tokenizer_files(text.max_position_embeddings, merges),
        weights="safetensors",
        dtype=np.float16,
        training_note=TRAINING_NOTE,
    )
    (directory / STATE).unlink(missing_ok=True)
    return directory


def _towers(settings: Settings, vocabulary: int) -> tuple[TextConfig, VisionConfig]:
    """Returns the sizes of both towers."""
    text = TextConfig(vocabulary, 128, 384, 2, 2, 77, 256, eos_token_id=vocabulary - 1)
    vision = VisionConfig(
        PICTURE, settings.patch_size, settings.width, 3 * settings.width,
        settings.layers, settings.heads, 256,
    )  # fmt: skip
    return text, vision


def _is_unfinished(directory: pathlib.Path, settings: Settings) -> bool:
    """Says whether there is something to train; writes the settings of a new folder."""
    wanted = dataclasses.asdict(settings)
    if not (directory / SETTINGS).exists():
        if directory.is_dir() and any(directory.iterdir()):
            raise InputError(
                f"{directory}: not empty, and without {SETTINGS}; choose another folder"
            )
        files.write_json(directory / SETTINGS, wanted)
        return True

    found = files.read_json(directory / SETTINGS)
    if found != wanted:
        changed = [
            k
            for k in wanted
            if not isinstance(found, dict) or found.get(k) != wanted[k]
        ]
        raise InputError(
            f"{directory / SETTINGS}: written with another {', '.join(changed)}; use the "
            "same settings to resume, or choose another folder"
        )
    return not (directory / "config.json").exists()


def _draw_captions(
    frames: Frames, seed: int
) -> tuple[tuple[Caption, ...], Int[np.ndarray, "N C"]]:
    """Draws captions of every frame; returns them without repetition, and indices."""
    rng = np.random.default_rng([seed, 6])
    pool: dict[Caption, int] = {}
    rows = []
    for row in frames.facts:
        facts = [fact for fact, holds in zip(ALL_FACTS, row, strict=True) if holds]
        drawn = [caption(facts, rng) for _ in range(CAPTIONS_PER_PICTURE)]
        rows.append([pool.setdefault(c, len(pool)) for c in drawn])
    return tuple(pool), np.array(rows)


def draw_batch(data: TrainingSet, step: int, size: int, seed: int) -> CaptionBatch:
    """Draws the batch of a step, a pure function of the arguments."""
    rng = np.random.default_rng([seed, step, 7])
    rows = rng.integers(len(data.frames.facts), size=size)
    chosen = data.of_frame[rows, rng.integers(data.of_frame.shape[1], size=size)]

    # Random shifts, mirror images and exposure.
    pictures = np.empty((size, PICTURE, PICTURE, 3), np.uint8)
    for i, row in enumerate(rows):
        left = int(rng.integers(2 * MARGIN + 1))
        picture = data.frames.pictures[row][:, left : left + PICTURE]
        pictures[i] = picture[:, ::-1] if rng.random() < 0.5 else picture
    gain = rng.uniform(0.9, 1.1, (size, 1)) * rng.uniform(0.95, 1.05, (size, 3))

    tokens, eos, context = _with_context(
        data.tokens[chosen], data.eos[chosen], rng.random(size) < CONTEXT_RATE
    )
    true = truth_table([data.captions[k] for k in chosen], data.frames.facts[rows])
    return CaptionBatch(pictures, gain.astype(np.float32), tokens, eos, context, true)


def _with_context(
    tokens: Int[np.ndarray, "B L"], eos: Int[np.ndarray, "B"], moved: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Puts `CONTEXT` places before and after the words of the rows in `moved`."""
    size, length = tokens.shape
    wide = np.zeros((size, length + 2 * CONTEXT), np.int32)
    context = np.zeros(wide.shape, bool)
    wide[:, :length] = tokens

    for i in np.flatnonzero(moved):
        end = int(eos[i])
        words = tokens[i, 1:end]
        wide[i, 1:] = 0
        wide[i, 1 + CONTEXT : 1 + CONTEXT + len(words)] = words
        wide[i, end + 2 * CONTEXT] = tokens[i, end]
        context[i, 1 : end + 2 * CONTEXT] = True
        context[i, 1 + CONTEXT : 1 + CONTEXT + len(words)] = False
    return wide, (eos + 2 * CONTEXT * moved).astype(np.int32), context


def _train(
    data: TrainingSet,
    text: TextConfig,
    vision: VisionConfig,
    settings: Settings,
    path: pathlib.Path,
) -> Any:
    """Trains both towers, from the saved state where there is one; returns weights."""
    optimisation = Optimisation(settings.steps, settings.learning_rate)
    params = init_params(text, vision, settings.seed)
    state: Any = CLIPState(0, params, optimisation.optimizer().init(params))
    if path.exists():
        state = _read_state(state, path)

    step = make_step(text, vision, optimisation)
    draw = functools.partial(
        draw_batch, data, size=settings.batch_size, seed=settings.seed
    )
    losses = []
    with Progress("training the CLIP", settings.steps, unit="step") as progress:
        progress.update(int(state.step))
        for k in range(int(state.step), settings.steps):
            state, loss = step(state, draw(k), jax.random.key(k))
            progress.update()
            losses.append(loss)

            # The loss is read rarely: reading waits for the device.
            if (k + 1) % SAVE_EVERY == 0:
                print(f"step {k + 1}: loss {_mean_loss(losses, k + 1):.3f}")
                losses.clear()
                with files.atomic_path(path) as temporary:
                    temporary.write_bytes(serialization.to_bytes(state))

    # Neither state nor snapshot ever holds weights of a training that diverged.
    if losses:
        _mean_loss(losses, settings.steps)
    return state.params


def _mean_loss(losses: Sequence[Any], step: int) -> float:
    """Returns the mean of losses; raises InputError if one is not finite."""
    mean = float(np.mean(losses))
    if not np.isfinite(mean):
        raise InputError(
            f"the loss is {mean} by step {step}: the training diverged; pass a smaller "
            "--learning_rate, and another --output"
        )
    return mean


def _read_state(empty: CLIPState, path: pathlib.Path) -> Any:
    """Reads the saved state of an interrupted training.

    Raises:
      InputError: the file is damaged.
    """
    try:
        return serialization.from_bytes(empty, path.read_bytes())
    except Exception as e:  # noqa: BLE001 damage can raise anything
        raise_if_unreadable(path, e)
        raise InputError(
            f"{path}: damaged ({one_line(e, 100)}); remove it, and the same command "
            "trains from step 0"
        ) from None
