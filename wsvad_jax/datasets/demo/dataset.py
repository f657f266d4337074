"""Builds the demo dataset, the offline default, and those of the other demo worlds.

A demo takes the path of real data. Videos are rendered to mp4 files (`world`). The
small CLIP snapshot of the package, in the hub's format, extracts their features. The
folder has the layout of a user's dataset and is prepared like one.
It is built once. On reuse, a manifest of hashes finds missing or damaged files, and
only these are built again.
"""

import csv
import dataclasses
import hashlib
import io
import json
import pathlib
import shutil
import sys
from collections.abc import Mapping

import numpy as np

from wsvad_jax.clip.packaged import PACKAGED_FOLDER
from wsvad_jax.datasets.demo.events import EVENTS
from wsvad_jax.datasets.demo.figures import FPS
from wsvad_jax.datasets.demo.prompts import PROMPTS
from wsvad_jax.datasets.demo.world import NORMAL, VideoPlan, write_video
from wsvad_jax.datasets.demo.worlds import DEMO, World
from wsvad_jax.utils.errors import InputError, UnreadableError
from wsvad_jax.utils.files import atomic_path, read_json, write_json, write_text
from wsvad_jax.utils.processes import run_in_pool
from wsvad_jax.utils.progress import Progress

MANIFEST = "manifest.json"
ALWAYS = ("features/protocol.json", "clip/config.json")  # files of every folder
BUILD_SETTINGS = "part.json"  # settings of an unfinished folder
VERSION = 3  # version of the demo world; an older folder is built again
SEED = DEMO.seed
VIDEOS = DEMO.videos  # number of training and test videos
NORMAL_FRACTION = 0.5  # share of normal videos
# In the manifest: whether the user gave the CLIP snapshot. In the settings of an
# unfinished folder: the hashes of its files, {} for the package's.
OWN_CLIP = "own_clip"
CLIP = "../world/clip"  # path of the snapshot, relative to the prepared dataset
FRAME = "middle"  # frame of each snippet that is encoded


def prepare_demo(
    base: pathlib.Path,
    videos: tuple[int, int] | None = None,
    clip: pathlib.Path | None = None,
    world: World = DEMO,
) -> pathlib.Path:
    """Returns the version folder of a demo dataset; builds it if it is missing.

    Args:
      base: folder of prepared datasets; the videos are in its NAME/world.
      videos: number of training and test videos; None is the world's own.
      clip: folder of a CLIP snapshot, see `build_world`.
      world: what the videos show; its name is the dataset's.

    Raises:
      InputError: another dataset has that name, or as in `build_world`.
    """
    from wsvad_jax.data.dataset import VERSION as DATASET_VERSION
    from wsvad_jax.data.dataset import open_dataset
    from wsvad_jax.data.tfds_builder import write_dataset
    from wsvad_jax.datasets import custom

    folder, written = (base / world.name / name for name in ("world", DATASET_VERSION))
    if written.is_dir() and not folder.is_dir():
        raise InputError(
            f"{base / world.name} holds a dataset that isn't the demo world of that name; "
            "prepare it again under another --name, or pass another --data_dir"
        )

    # A prepared dataset is reused only if the videos and features are unchanged.
    changed = build_world(folder, videos, clip=clip, world=world)
    if written.is_dir() and not changed:
        try:
            return open_dataset(written).path
        except UnreadableError:
            raise
        except InputError as e:
            print(f"{e}; that of {world.name} is written again", file=sys.stderr)

    # An interruption must not leave the dataset of other features.
    shutil.rmtree(written, ignore_errors=True)
    found = custom.load(folder)
    return write_dataset(world.name, found.card, found.protocol, found.splits, base)


def build_world(
    directory: pathlib.Path,
    videos: tuple[int, int] | None = None,
    seed: int | None = None,
    clip: pathlib.Path | None = None,
    world: World = DEMO,
) -> bool:
    """Builds the folder of a demo world, or its missing and damaged files.

    Returns whether anything was built.

    Args:
      directory: folder for videos/, features/, clip/, train.csv, test.csv,
        test_segments.json, card.json and manifest.json.
      videos: number of training and test videos; None is the world's own.
      seed: seed of all random choices; None is the world's own.
      clip: folder of a CLIP snapshot. It is copied, makes the features, and stays until
        another is given. None keeps it; a new folder gets the package's.
      world: what the videos show.

    Raises:
      InputError: the snapshot that was given for this folder is damaged.
    """
    world = world if seed is None else dataclasses.replace(world, seed=seed)
    videos = videos or world.videos
    plans = plan_videos(videos, world.seed, world)
    made = {"version": VERSION, "videos": list(videos), **world.settings}
    own = _own_snapshot(directory, clip)
    manifest = _manifest(directory, made)
    everything = [p for split in plans.values() for p in split]

    # Files whose content is known to be right, and those that there should be.
    good = {
        name for name, wanted in manifest.items() if wanted == _hash(directory / name)
    }
    expected = {_video_path(p) for p in everything}
    expected |= {_features_path(p) for p in everything}
    expected |= {*_list_files(plans, world), *ALWAYS}

    # An unfinished build may be one with another snapshot.
    unchanged = not (directory / BUILD_SETTINGS).exists() and (
        clip is None or own == _snapshot_hashes(directory / "clip")
    )
    if unchanged and expected <= good and good == set(manifest):
        return False

    if clip is None:
        _check_own_snapshot(directory, own)
    if not manifest:
        _remove_other_world(directory, made)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / BUILD_SETTINGS, {**made, OWN_CLIP: own})

    # Another CLIP makes all features stale, so the snapshot comes before them. The
    # user's is in the folder already, unless another one is given.
    fresh = False
    if clip or not own:
        fresh = _copy_snapshot(clip or PACKAGED_FOLDER, directory)
    missing = [p for p in everything if _video_path(p) not in good]
    _render_videos(missing, directory, world)
    stale = [
        p
        for p in everything
        if fresh or not {_video_path(p), _features_path(p)} <= good
    ]
    _extract_features(stale, directory)
    for name, text in _list_files(plans, world).items():
        write_text(directory / name, text)

    # The manifest is written last: an interrupted build is found to be incomplete.
    _write_manifest(directory, {**made, OWN_CLIP: bool(own)}, expected)
    return True


def _write_manifest(
    directory: pathlib.Path, settings: Mapping, expected: set[str]
) -> None:
    """Writes the hashes of a finished folder's files, and ends the build."""
    names = expected | {f"clip/{p.name}" for p in (directory / "clip").iterdir()}
    found = {name: _hash(directory / name) for name in sorted(names)}
    write_json(directory / MANIFEST, {**settings, "files": found})
    (directory / BUILD_SETTINGS).unlink(missing_ok=True)


def plan_videos(
    videos: tuple[int, int], seed: int, world: World = DEMO
) -> dict[str, list[VideoPlan]]:
    """Plans the videos of both splits; about half are normal."""
    world, kinds = dataclasses.replace(world, seed=seed), sorted(EVENTS)
    plans = {}
    for split, count in zip(("train", "test"), videos, strict=True):
        normal = max(int(count * NORMAL_FRACTION), 1)
        names = [NORMAL] * normal
        names += [kinds[i % len(kinds)] for i in range(count - normal)]
        plans[split] = [world.plan(split, i, c) for i, c in enumerate(names)]
    return plans


def _video_path(plan: VideoPlan) -> str:
    return f"videos/{plan.video}.mp4"


def _features_path(plan: VideoPlan) -> str:
    return f"features/{plan.video}.npy"


def _manifest(directory: pathlib.Path, made: Mapping) -> dict[str, str]:
    """Hashes of the files of a folder that was built with the same settings.

    After an interrupted build there is no manifest, and only the videos are kept: their
    names determine their content. {} if the folder is another world's.
    """
    found = _read_manifest(directory)
    if {k: found.get(k) for k in made} == made:
        return found["files"]

    # A folder of other settings holds other videos under the same names.
    begun = _read_build_settings(directory)
    if {k: begun.get(k) for k in made} != made:
        return {}

    # Rendering takes most of the time. Files appear whole, so finished videos can stay.
    return {
        f"videos/{p.name}": _hash(p)
        for p in sorted((directory / "videos").glob("*.mp4"))
    }


def _remove_other_world(directory: pathlib.Path, made: Mapping) -> None:
    """Says which other world the folder holds, and removes all but its snapshot."""
    found = _read_manifest(directory) or _read_build_settings(directory)
    other = [
        f"{k} {found[k]}, now {v}" for k, v in made.items() if found.get(k, v) != v
    ]
    if other:
        print(
            f"{directory} holds the videos of another demo world ({'; '.join(other)}); "
            "they are rendered again",
            file=sys.stderr,
        )

    kept = {"clip", BUILD_SETTINGS, MANIFEST}
    for path in directory.iterdir() if directory.is_dir() else ():
        if path.name in kept:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _own_snapshot(
    directory: pathlib.Path, clip: pathlib.Path | None = None
) -> dict[str, str]:
    """Returns the hash of each file of the user's snapshot; {} for the package's.

    Args:
      directory: folder of the world, even an unfinished one.
      clip: folder of the snapshot that the user gives now.
    """
    if clip is not None:
        return _snapshot_hashes(clip)

    # An unfinished folder may not hold the snapshot yet that it was begun for.
    begun, built = _read_build_settings(directory), _read_manifest(directory)
    if isinstance(begun.get(OWN_CLIP), dict):
        return begun[OWN_CLIP]
    if not built.get(OWN_CLIP):
        return {}
    return {
        name.removeprefix("clip/"): wanted
        for name, wanted in built["files"].items()
        if name.startswith("clip/")
    }


def _check_own_snapshot(directory: pathlib.Path, own: Mapping[str, str]) -> None:
    """Raises InputError if the snapshot that the user gave is not in the folder."""
    there = _snapshot_hashes(directory / "clip")
    bad = sorted(name for name, wanted in own.items() if there.get(name) != wanted)
    if bad:
        raise InputError(
            f"{directory / 'clip' / bad[0]} is missing or differs from the CLIP model "
            "that was given for the demo; run `python -m wsvad_jax.prepare demo --clip "
            "DIR` with that CLIP model again"
        )


def _read_build_settings(directory: pathlib.Path) -> dict:
    return _read_or_empty(directory / BUILD_SETTINGS)


def _read_manifest(directory: pathlib.Path) -> dict:
    return _read_or_empty(directory / MANIFEST)


def _read_or_empty(path: pathlib.Path) -> dict:
    """Returns the object in a JSON file; {} if it is missing or damaged."""
    try:
        content = read_json(path)
        return content if isinstance(content, dict) else {}
    except UnreadableError:
        raise
    except InputError:
        return {}


def _hash(path: pathlib.Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return "missing"


def _render_videos(
    plans: list[VideoPlan], directory: pathlib.Path, world: World
) -> None:
    (directory / "videos").mkdir(exist_ok=True)
    calls = [(p, directory / _video_path(p), world.seed) for p in plans]
    run_in_pool(write_video, calls, f"rendering {world.name}", "video")


def _snapshot_hashes(folder: pathlib.Path) -> dict[str, str]:
    """Returns the hash of each file of a snapshot, {} without the folder."""
    if not folder.is_dir():
        return {}
    files = (p for p in folder.iterdir() if p.is_file() and p.name[0] != ".")
    return {p.name: _hash(p) for p in files}


def _copy_snapshot(source: pathlib.Path, directory: pathlib.Path) -> bool:
    """Copies a CLIP snapshot into a world's folder unless it is there.

    Returns whether it did. All features of the folder are stale then.
    """
    folder, wanted = directory / "clip", _snapshot_hashes(source)
    if _snapshot_hashes(folder) == wanted:
        return False

    # Without the manifest, no features count as good after an interruption.
    (directory / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # config.json comes last: a snapshot with it is complete.
    for name in sorted(wanted, key=lambda name: name == "config.json"):
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(source / name, temporary)
    return True


def _extract_features(plans: list[VideoPlan], directory: pathlib.Path) -> None:
    from wsvad_jax.clip.snapshot import load_snapshot
    from wsvad_jax.extraction.extractor import Extractor

    if not plans:
        return

    extractor = Extractor(load_snapshot(directory / "clip"), frame=FRAME, resize="clip")
    paths = [directory / _video_path(p) for p in plans]
    with Progress("extracting features", len(plans), unit="video") as progress:
        for plan, found in zip(plans, extractor.stream(paths), strict=True):
            with atomic_path(directory / _features_path(plan)) as temporary:
                np.save(temporary, found.features[0])
            progress.update()

    # The prepared dataset finds the snapshot by a relative path, so the folder can
    # move.
    protocol = extractor.protocol.__dict__ | {"clip": CLIP}
    write_json(directory / "features" / "protocol.json", protocol)


def _list_files(plans: Mapping[str, list[VideoPlan]], world: World) -> dict[str, str]:
    """Name and content of the folder's lists, ground truth and dataset card."""
    # The layout of a user's dataset: two lists, ground truth and a card.
    files = {}
    for split, part in plans.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("video", "label"))
        writer.writerows((p.video, p.label) for p in part)
        files[f"{split}.csv"] = text.getvalue()

    # Only the test videos have segments: training sees one label per video.
    truth = [
        {
            "video": p.video,
            "label": p.label,
            "segments": [[e.start, e.stop, e.category] for e in p.events],
        }
        for p in plans["test"]
    ]

    card = {
        "name": world.name,
        "classes": [{"name": n, "prompts": p} for n, p in PROMPTS.items()],
        "normal": NORMAL,
        "clip": CLIP,
        "fps": FPS,
    }

    files["test_segments.json"] = json.dumps(truth, indent=1) + "\n"
    files["card.json"] = json.dumps(card, indent=1) + "\n"
    return files
