"""Videos of a custom folder: which need features, and their extraction.

FOLDER/videos/VIDEO.mp4 (or another container, in folders too) becomes
FOLDER/features/VIDEO.npy with a sidecar. Features whose sidecar fits the video stay, so
what is extracted are new and changed videos, in the way in which the others were.
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from wsvad_jax.data import feature_protocols, sidecar
from wsvad_jax.data.cards import Card
from wsvad_jax.data.crops import MissingFeatures, crop_files, other_format
from wsvad_jax.data.feature_files import ErrorCollector, shape_of
from wsvad_jax.data.records import FRAMES_PER_SNIPPET
from wsvad_jax.data.video_names import EXTENSIONS, Hints, index_by_name
from wsvad_jax.datasets import custom as folders
from wsvad_jax.datasets.missing_files import beside
from wsvad_jax.datasets.split_lists import Row, label_of, read_lists, without_doubles
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError, Unreadable
from wsvad_jax.utils.walk import Passed, files_below

PROTOCOL_KEY = "weights_hash"  # in the protocol.json that extraction writes


@dataclasses.dataclass(frozen=True)
class ExtractionOptions:
    """How features are to be made; None is as the others were, else the default."""

    clip: str | None = None  # hub name or snapshot folder
    crops: int | None = None
    frame: str | None = None
    resize: str | None = None

    @property
    def is_set(self) -> bool:
        return any(v is not None for v in dataclasses.astuple(self))


@dataclasses.dataclass
class Plan:
    """What of a list's videos has features, by name."""

    sources: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    missing: list[str] = dataclasses.field(default_factory=list)  # but with a video
    changed: list[str] = dataclasses.field(default_factory=list)  # the video, since
    foreign: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    made: dict[str, sidecar.Sidecar] = dataclasses.field(default_factory=dict)
    # Two files of one name, and what can't be read.
    double: dict[str, InputError] = dataclasses.field(default_factory=dict)
    lost: list[str] = dataclasses.field(default_factory=list)  # neither there
    hints: Hints = dataclasses.field(default_factory=lambda: Hints(()))
    passed: Passed = dataclasses.field(default_factory=Passed)  # of the videos


def video_files(
    root: pathlib.Path, passed: Passed | None = None
) -> dict[str, list[pathlib.Path]]:
    """Maps names below a folder, without extension, to its video files."""
    paths = files_below(root, EXTENSIONS, passed, every_name=True)
    return index_by_name((path.relative_to(root).as_posix(), path) for path in paths)


def plan(folder: pathlib.Path, root: pathlib.Path, videos: Iterable[str]) -> Plan:
    """Compares videos and features of a folder.

    Args:
      folder: holds videos/.
      root: the features' folder; need not exist.
      videos: names in the lists.
    """
    result, names = Plan(), dict.fromkeys(videos)
    sources = video_files(folder / folders.VIDEOS, result.passed)
    made = folders.feature_files(root, names, Passed())
    result.hints = Hints([*sources, *made], (folders.VIDEOS, root.name, folder.name))
    # A folder that extraction has claimed holds no others' features; one without a
    # sidecar there is what a killed process left.
    claimed = PROTOCOL_KEY in _json(root / "protocol.json")
    for video in names:
        paths = sources.get(video, [])
        if len(paths) > 1:
            result.double[video] = InputError(
                f"{paths[0]}: there is {os.path.relpath(paths[1], paths[0].parent)} as "
                f"well; keep one file of video {video}"
            )
            continue
        if paths:
            result.sources[video] = paths[0]
        try:
            npy = crop_files(video, made, root)
        except MissingFeatures:
            (result.missing if paths else result.lost).append(video)
            continue
        except InputError as e:
            result.double[video] = e
            continue
        if claimed or os.path.isfile(sidecar.sidecar_path(npy[0])):
            _compare(result, video, npy)
        else:
            result.foreign[video] = npy[0]
    return result


def _json(path: pathlib.Path) -> dict:
    value = files.read_json(path) if path.exists() else {}
    return value if isinstance(value, dict) else {}


def _compare(result: Plan, video: str, npy: Sequence[pathlib.Path]) -> None:
    try:
        made = sidecar.read(sidecar.sidecar_path(npy[0]))
        for part in npy:
            shape_of(part)
    except Unreadable:
        raise
    except InputError:
        if video in result.sources:
            result.changed.append(video)  # half a pair: extracted anew
        return
    result.made[video] = made
    if (source := result.sources.get(video)) is None:
        return
    try:
        if made.source != sidecar.fingerprint(source):
            result.changed.append(video)
    except OSError as e:
        result.double[video] = InputError(f"{source}: can't be read ({e.strerror})")


def update(
    folder: pathlib.Path,
    root: pathlib.Path,
    way: ExtractionOptions,
    problems: ErrorCollector,
) -> set[str]:
    """Extracts features of the videos that have none, or those of another video.

    Returns the names of videos that can't be used, already given to `problems`.

    Args:
      folder: of one's own, with its lists.
      root: the features' folder.
      way: what the user asks for.
      problems: takes errors of single videos.

    Raises:
      InputError: no videos to extract from, no CLIP model named, or features of
        another way that can't be made again.
    """
    videos = folder / folders.VIDEOS
    if not videos.is_dir():
        if way.is_set:
            raise InputError(
                f"{beside(folder, root) or f'{videos}: no such folder'}; --clip, --crops, "
                "--frame and --resize extract features from the videos there"
            )
        return set()
    rows = {r.video: r for part in read_lists(folder).values() for r in part}
    found = plan(folder, root, rows)
    say(found, problems)
    for video in found.lost:
        problems(lost(folder, root, rows[video], found.hints))
    for error in found.double.values():
        problems(error)
    if found.sources and (way.is_set or found.missing or found.changed):
        card = _check_lists(folder, root, problems.skip)
        _extract(folder, root, found, card, way, problems)
        found = plan(folder, root, rows)
    elif way.is_set:
        raise InputError(
            f"{videos}: none of the {len(rows)} videos in the lists is there"
        )
    return {*found.lost, *found.double, *found.missing, *found.changed}


def say(found: Plan, problems: ErrorCollector) -> None:
    """Says what was passed over: problems where listed videos may be in it."""
    if str(found.passed):
        print(found.passed, file=sys.stderr)
    for error in found.passed.errors:
        if found.lost:
            problems(error)
        else:
            print(f"skipped: {error}", file=sys.stderr)


def lost(
    folder: pathlib.Path, root: pathlib.Path, row: Row, hints: Hints
) -> InputError:
    """Returns the error of a video that is not there, with a name that it may be."""
    videos = folder / folders.VIDEOS
    where = (
        f"neither in {videos} nor in {root}" if videos.is_dir() else f"not in {root}"
    )
    question = hints(row.video)
    near = f" ({question})" if question else ""
    if other := other_format(root, row.video):
        return InputError(f"{row.where}: video {row.video} is {where}; {other}")
    return InputError(
        f"{row.where}: video {row.video} is {where}; correct its name{near}, add it or "
        "take it off the list"
    )


def _check_lists(folder: pathlib.Path, root: pathlib.Path, skip: bool) -> Card | None:
    """Finds what would stop later, before hours of extraction; returns the card."""
    problems, path = ErrorCollector(skip), folder / "card.json"
    lists = without_doubles(read_lists(folder), problems)
    protocol, clip = folders.read_protocol(root / "protocol.json")
    known = folders.card_of(folder, root, lists["train"], protocol, clip)
    card = known if path.exists() else None
    for row in (row for rows in lists.values() for row in rows):
        try:
            label_of(row, known)
        except InputError as e:
            problems(e)
    if (folder / folders.TRUTH).exists():
        folders.read_truth(folder / folders.TRUTH)
    return card


def _extract(
    folder: pathlib.Path,
    root: pathlib.Path,
    found: Plan,
    card: Card | None,
    way: ExtractionOptions,
    problems: ErrorCollector,
) -> None:
    from wsvad_jax.extraction.extract_files import extract_files

    needed = found.missing + found.changed
    if found.foreign:
        npy = next(iter(found.foreign.values()))
        raise InputError(
            f"{npy}: these features have no sidecar, so how they were made isn't known "
            f"and those of {needed[0] if needed else 'other videos'} can't be extracted "
            f"to go with them; move {root} away to extract all videos, or do without "
            "--clip"
        )
    _, before = folders.read_protocol(root / "protocol.json")
    extractor, clip = _extractor(folder, found, card, way, before)
    _check_way(root, found, extractor)
    print(
        f"features of {len(found.sources)} videos with {extractor.encoder}: "
        f"{len(found.missing)} are missing, {len(found.changed)} are of other videos"
    )
    paths = list(found.sources.values())
    videos = folder / folders.VIDEOS
    summary = extract_files(paths, root, extractor, root=videos, clip=clip)
    made = files.read_json(root / "protocol.json")
    if made.get("clip") != clip:  # the model lies elsewhere now
        files.write_json(root / "protocol.json", {**made, "clip": clip})
    print(summary)
    for error in summary.failed:
        problems(error)


def _extractor(
    folder: pathlib.Path,
    found: Plan,
    card: Card | None,
    way: ExtractionOptions,
    before: str,
) -> tuple[Any, str]:
    """Returns the extractor, and the snapshot's name as training finds it."""
    from wsvad_jax.clip.snapshot import load_snapshot
    from wsvad_jax.extraction.extractor import Extractor

    clip = way.clip or before or (card.clip if card else "")
    if not clip:
        raise InputError(
            f"{folder}: {len(found.missing)} of its videos have no features yet; pass --clip "
            f"NAME, a model of the Hugging Face hub like {folders.MODEL} or the folder of one, "
            "to extract them"
        )
    if pathlib.Path(clip).expanduser().is_dir():
        clip = str(pathlib.Path(clip).expanduser().resolve())
    snapshot = load_snapshot(clip)
    for remark in snapshot.remarks:
        print(remark, file=sys.stderr)
    made = next(iter(found.made.values()), None)
    here = feature_protocols.snapshot_protocol(snapshot, made.resize if made else "")
    differs = made and feature_protocols.encoder_difference(here, made.protocol)
    if differs and not way.clip:
        raise InputError(
            f"{clip}: not the weights that the features in the folder were made with, "
            f"or not used as then ({differs}); pass --clip to say which, or to extract "
            "all again"
        )
    stride = card.stride if card else made.stride if made else FRAMES_PER_SNIPPET
    extractor = Extractor(
        snapshot,
        crops=way.crops or (made.crops if made else 1),
        frame=way.frame or (made.frame if made else "middle"),
        resize=way.resize or (made.resize if made else "stretch"),
        stride=stride,
    )
    return extractor, clip


def _check_way(root: pathlib.Path, found: Plan, extractor: Any) -> None:
    for made in found.made.values():
        if differs := feature_protocols.difference(extractor.protocol, made.protocol):
            raise InputError(
                f"{root}: its features were made by {folders.made_by(made)}, but "
                f"{folders.made_by(extractor)} is asked for ({differs}); move that "
                "folder away to extract all videos again"
            )
