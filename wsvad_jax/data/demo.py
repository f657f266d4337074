"""The offline default dataset: videos of the demo world, made on the spot.

Everything goes the way that real data goes: mp4 files are rendered (demo_world.py), a
small CLIP snapshot with seeded weights is written in the hub's own format, features
come out of the extraction path, and the folder, which is laid out as a folder of one's
own, is prepared like any other. Made once; a manifest of hashes finds what is missing
or damaged on reuse, and only that is made again.
"""

import concurrent.futures
import csv
import hashlib
import io
import json
import multiprocessing
import os
import pathlib
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from wsvad_jax.data.demo_events import EVENTS
from wsvad_jax.data.demo_figures import FPS
from wsvad_jax.data.demo_scenes import HEIGHT, WIDTH
from wsvad_jax.data.demo_world import NORMAL, Plan, plan_video, record
from wsvad_jax.errors import InputError, Unreadable
from wsvad_jax.files import atomic_path, read_json, write_json, write_text
from wsvad_jax.progress import Progress

PART = "part.json"  # says what an unfinished folder is going to be
VERSION = 2  # of the world: one of another version is made anew
SEED = 0
VIDEOS = (90, 45)  # training, test
NORMAL_SHARE = 0.5
CLIP = "../world/clip"  # the snapshot, seen from the prepared dataset
CALIBRATION = 10  # normal videos that the image tower's output is scaled by
PROMPTS = {
    NORMAL: ["people and cars on an ordinary day"],
    "Arson": ["a fire set on purpose"],
    "Explosion": ["an explosion"],
    "Fighting": ["people fighting"],
    "RoadAccidents": ["a road accident"],
}


def prepare(base: pathlib.Path, videos: tuple[int, int] = VIDEOS) -> pathlib.Path:
    """Returns the version folder of the demo dataset, made where it is missing.

    Args:
      base: the folder of prepared datasets; the world lies in its demo/world.
      videos: how many for training and for the test.
    """
    from wsvad_jax.data import folder
    from wsvad_jax.data.builder import write_dataset
    from wsvad_jax.data.dataset import VERSION as DATASET_VERSION
    from wsvad_jax.data.dataset import open_dataset

    world, written = base / "demo" / "world", base / "demo" / DATASET_VERSION
    changed = make(world, videos)
    if written.is_dir() and not changed:
        try:
            return open_dataset(written).path
        except Unreadable:
            raise
        except InputError as e:
            print(f"{e}; the demo's is written again", file=sys.stderr)
    found = folder.load(world)
    return write_dataset("demo", found.card, found.protocol, found.splits, base)


def make(
    directory: pathlib.Path, videos: tuple[int, int] = VIDEOS, seed: int = SEED
) -> bool:
    """Makes the world's folder, or what is missing or damaged in it.

    Returns whether anything was made.

    Args:
      directory: of the world: videos/, features/, clip/, train.csv, test.csv,
        test_segments.json, card.json, manifest.json.
      videos: how many for training and for the test.
      seed: of everything that is drawn by lot.
    """
    plans = plan_world(videos, seed)
    made = {"version": VERSION, "videos": list(videos), "seed": seed}
    manifest = _manifest(directory, made)
    everything = [p for split in plans.values() for p in split]
    good = {
        name for name, wanted in manifest.items() if wanted == _hash(directory / name)
    }
    expected = {_video(p) for p in everything} | {_features(p) for p in everything}
    expected |= set(_lists(plans)) | {"features/protocol.json", "clip/config.json"}
    if expected <= good and good == set(manifest):
        return False
    directory.mkdir(parents=True, exist_ok=True)
    _render([p for p in everything if _video(p) not in good], directory, seed)
    fresh = _snapshot(plans["train"], directory, good, seed)
    stale = [p for p in everything if fresh or not {_video(p), _features(p)} <= good]
    _extract(stale, directory)
    for name, text in _lists(plans).items():
        write_text(directory / name, text)
    expected |= {f"clip/{p.name}" for p in (directory / "clip").iterdir()}
    found = {name: _hash(directory / name) for name in sorted(expected)}
    write_json(directory / "manifest.json", {**made, "files": found})
    (directory / PART).unlink(missing_ok=True)
    return True


def plan_world(videos: tuple[int, int], seed: int) -> dict[str, list[Plan]]:
    """Draws up the videos of both splits; about half are normal."""
    kinds = sorted(EVENTS)
    plans = {}
    for split, count in zip(("train", "test"), videos, strict=True):
        normal = max(int(count * NORMAL_SHARE), 1)
        names = [NORMAL] * normal
        names += [kinds[i % len(kinds)] for i in range(count - normal)]
        plans[split] = [plan_video(split, i, c, seed) for i, c in enumerate(names)]
    return plans


def _video(plan: Plan) -> str:
    return f"videos/{plan.video}.mp4"


def _features(plan: Plan) -> str:
    return f"features/{plan.video}.npy"


def _manifest(directory: pathlib.Path, made: Mapping) -> dict[str, str]:
    """Hashes of the files of a world that was made with the same settings.

    A file that an interrupted run left whole has no entry; it is made again, but for
    the videos, which are named by everything that they depend on.
    """
    try:
        found = read_json(directory / "manifest.json")
    except Unreadable:
        raise
    except InputError:
        found = {}
    if {k: found.get(k) for k in made} == made:
        return found["files"]
    if directory.is_dir() and _part(directory) != made:
        shutil.rmtree(directory)
    write_json(directory / PART, made)
    # Rendering dominates; files appear whole, so those that are there can stay.
    return {
        f"videos/{p.name}": _hash(p)
        for p in sorted((directory / "videos").glob("*.mp4"))
    }


def _part(directory: pathlib.Path) -> dict | None:
    try:
        return read_json(directory / PART)
    except Unreadable:
        raise
    except InputError:
        return None


def _hash(path: pathlib.Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return "missing"


def _render(plans: list[Plan], directory: pathlib.Path, seed: int) -> None:
    if not plans:
        return
    # Spawned: a fork would take JAX's threads along in a state of their own.
    context = multiprocessing.get_context("spawn")
    workers = min(os.cpu_count() or 1, len(plans), 16)
    (directory / "videos").mkdir(exist_ok=True)
    with (
        concurrent.futures.ProcessPoolExecutor(workers, context) as pool,
        Progress("rendering the demo world", len(plans), unit="video") as progress,
    ):
        jobs = [pool.submit(record, p, directory / _video(p), seed) for p in plans]
        try:
            for job in concurrent.futures.as_completed(jobs):
                job.result()
                progress.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _snapshot(
    plans: Iterable[Plan], directory: pathlib.Path, good: Iterable[str], seed: int
) -> bool:
    """Writes the CLIP snapshot unless it is whole; returns whether it did."""
    from wsvad_jax.clip.load import save_snapshot
    from wsvad_jax.clip.random import (
        EOS_TOKEN_ID,
        VOCAB_SIZE,
        random_params,
        tokenizer_files,
    )
    from wsvad_jax.clip.towers import TextConfig, VisionConfig

    clip = directory / "clip"
    if clip.is_dir() and {f"clip/{p.name}" for p in clip.iterdir()} <= set(good):
        return False
    shutil.rmtree(clip, ignore_errors=True)
    text = TextConfig(VOCAB_SIZE, 128, 512, 4, 2, 77, 256, eos_token_id=EOS_TOKEN_ID)
    vision = VisionConfig(96, 16, 256, 1024, 1, 4, 256)
    params = random_params(text, vision, seed)
    params = calibrated(params, vision, _normal_life(plans, directory))
    tokenizer = tokenizer_files(text.max_position_embeddings)
    save_snapshot(clip, text, vision, params, tokenizer=tokenizer)
    return True


def calibrated(
    params: dict, vision: Any, pictures: UInt8[np.ndarray, "B S S 3"]
) -> dict:
    """Shifts and scales the image tower's output to mean 0, deviation 1 on `pictures`.

    A tower with random weights says of every picture mostly the same; what people and
    fire change is a small part of it. Trained towers don't need this.
    """
    import jax.numpy as jnp

    from wsvad_jax.clip.load import IMAGE_MEAN, IMAGE_STD
    from wsvad_jax.clip.towers import CLIPVision

    pixels = (pictures.astype(np.float32) / 255 - IMAGE_MEAN) / IMAGE_STD
    tower: Any = CLIPVision(vision)
    model, kernel = params["vision_model"], params["visual_projection"]["kernel"]
    pooled = tower.apply({"params": model}, jnp.asarray(pixels, jnp.float32))
    pooled = np.asarray(pooled)
    mean = pooled.mean(0)
    deviation = ((pooled - mean) @ kernel).std(0)
    norm = model["post_layernorm"]
    norm = {**norm, "bias": norm["bias"] - mean}
    return {
        **params,
        "vision_model": {**model, "post_layernorm": norm},
        "visual_projection": {"kernel": (kernel / deviation).astype(np.float32)},
    }


def _normal_life(plans: Iterable[Plan], directory: pathlib.Path) -> np.ndarray:
    """A picture a second of the first normal videos, as the image tower sees them."""
    from wsvad_jax.data.video import Video, rgb

    normal = [p for p in plans if p.label == NORMAL][:CALIBRATION]
    side = (WIDTH - HEIGHT) // 2
    return np.stack(
        [
            rgb(frame)[:, side : side + HEIGHT]
            for plan in normal
            for i, frame in enumerate(Video(directory / _video(plan)).frames())
            if i % FPS == FPS // 2
        ]
    )


def _extract(plans: list[Plan], directory: pathlib.Path) -> None:
    from wsvad_jax.clip.load import load
    from wsvad_jax.data.extraction import Extractor

    if not plans:
        return
    extractor = Extractor(load(directory / "clip"), frame="mean", resize="clip")
    paths = [directory / _video(p) for p in plans]
    with Progress("extracting features", len(plans), unit="video") as progress:
        for plan, found in zip(plans, extractor.stream(paths), strict=True):
            with atomic_path(directory / _features(plan)) as temporary:
                np.save(temporary, found.features[0])
            progress.update()
    protocol = extractor.protocol.__dict__ | {"clip": CLIP}
    write_json(directory / "features" / "protocol.json", protocol)


def _lists(plans: Mapping[str, list[Plan]]) -> dict[str, str]:
    """Names and content of the folder's lists, truth and card."""
    files = {}
    for split, part in plans.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("video", "label"))
        writer.writerows((p.video, p.label) for p in part)
        files[f"{split}.csv"] = text.getvalue()
    truth = [
        {
            "video": p.video,
            "label": p.label,
            "segments": [[e.start, e.stop, e.category] for e in p.events],
        }
        for p in plans["test"]
    ]
    card = {
        "name": "demo",
        "classes": [{"name": n, "prompts": p} for n, p in PROMPTS.items()],
        "normal": NORMAL,
        "clip": CLIP,
    }
    files["test_segments.json"] = json.dumps(truth, indent=1) + "\n"
    files["card.json"] = json.dumps(card, indent=1) + "\n"
    return files
