"""Videos of a folder of one's own: which need features, and their extraction.

FOLDER/videos/VIDEO.mp4 (or another container, in folders too) becomes
FOLDER/features/VIDEO.npy with a sidecar. Features whose sidecar fits the video stay, so
what is extracted are new and changed videos, in the way in which the others were.
"""

import dataclasses
import difflib
import os
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from wsvad_jax import files
from wsvad_jax.data import cards, protocols, sidecar
from wsvad_jax.data import folder as folders
from wsvad_jax.data.cards import Card
from wsvad_jax.data.features import Problems, shape_of
from wsvad_jax.data.lists import (
    EXTENSIONS,
    Row,
    label_of,
    read_lists,
    video_id,
    without_doubles,
)
from wsvad_jax.data.records import FRAMES_PER_SNIPPET
from wsvad_jax.errors import InputError

PROTOCOL_KEY = "weights_hash"  # in the protocol.json that extraction writes
MODEL = "openai/clip-vit-base-patch16"  # an example in messages


@dataclasses.dataclass(frozen=True)
class Way:
    """How features are to be made; None is as the others were, else the default."""

    clip: str | None = None  # hub name or snapshot folder
    crops: int | None = None
    frame: str | None = None
    resize: str | None = None

    @property
    def told(self) -> bool:
        return any(v is not None for v in dataclasses.astuple(self))


@dataclasses.dataclass
class Plan:
    """What of a list's videos has features, by name."""

    sources: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    missing: list[str] = dataclasses.field(default_factory=list)  # but with a video
    changed: list[str] = dataclasses.field(default_factory=list)  # the video, since
    foreign: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    made: dict[str, sidecar.Sidecar] = dataclasses.field(default_factory=dict)
    double: dict[str, InputError] = dataclasses.field(default_factory=dict)
    lost: list[str] = dataclasses.field(default_factory=list)  # neither there


def video_files(root: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Maps names below a folder, without extension, to its video files."""
    found: dict[str, list[pathlib.Path]] = {}
    for place, _, names in os.walk(root, followlinks=True):
        for name in sorted(names):
            path = pathlib.Path(place, name)
            if path.suffix.lower() in EXTENSIONS and not name.startswith("."):
                key = video_id(path.relative_to(root).as_posix())
                found.setdefault(key, []).append(path)
    return found


def plan(folder: pathlib.Path, root: pathlib.Path, videos: Iterable[str]) -> Plan:
    """Compares videos and features of a folder.

    Args:
      folder: holds videos/.
      root: the features' folder; need not exist.
      videos: names in the lists.
    """
    sources = video_files(folder / folders.VIDEOS)
    index = folders.feature_files(root)
    # A folder that extraction has claimed holds no others' features; one without a
    # sidecar there is what a killed process left.
    claimed = PROTOCOL_KEY in _json(root / "protocol.json")
    result = Plan()
    for video in dict.fromkeys(videos):
        paths = sources.get(video, [])
        if len(paths) > 1:
            result.double[video] = InputError(
                f"{paths[0]}: there is {paths[1].name} as well; keep one file of video "
                f"{video}"
            )
            continue
        if paths:
            result.sources[video] = paths[0]
        try:
            npy = folders.crop_files(video, index, root)
        except InputError:
            (result.missing if paths else result.lost).append(video)
            continue
        if claimed or sidecar.sidecar_path(npy[0]).is_file():
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
    except InputError:
        if video in result.sources:
            result.changed.append(video)  # half a pair: extracted anew
        return
    result.made[video] = made
    source = result.sources.get(video)
    if source is not None and made.source != sidecar.fingerprint(source):
        result.changed.append(video)


def update(
    folder: pathlib.Path, root: pathlib.Path, way: Way, problems: Problems
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
        if way.told:
            raise InputError(
                f"{videos}: no such folder; --clip, --crops, --frame and --resize extract "
                "features from the videos there"
            )
        return set()
    rows = {r.video: r for part in read_lists(folder).values() for r in part}
    found = plan(folder, root, rows)
    for video in found.lost:
        problems(lost(folder, root, rows[video]))
    for error in found.double.values():
        problems(error)
    if found.sources and (way.told or found.missing or found.changed):
        card = _check_lists(folder, problems.skip)
        _extract(folder, root, found, card, way, problems)
        found = plan(folder, root, rows)
    elif way.told:
        raise InputError(
            f"{videos}: none of the {len(rows)} videos in the lists is there"
        )
    return {*found.lost, *found.double, *found.missing, *found.changed}


def lost(folder: pathlib.Path, root: pathlib.Path, row: Row) -> InputError:
    """Returns the error of a video that is not there, with a name that it may be."""
    videos = folder / folders.VIDEOS
    if not videos.is_dir():
        return InputError(
            f"{row.where}: video {row.video} is not in {root}; correct its name, add "
            "it or take it off the list"
        )
    near = difflib.get_close_matches(row.video, video_files(videos), 1)
    hint = f" ({near[0]} is there)" if near else ""
    return InputError(
        f"{row.where}: video {row.video} is neither in {videos} nor in {root}; "
        f"correct its name{hint}, add it or take it off the list"
    )


def _check_lists(folder: pathlib.Path, skip: bool) -> Card | None:
    """Finds what would stop later, before hours of extraction; returns the card."""
    problems, path = Problems(skip), folder / "card.json"
    lists = without_doubles(read_lists(folder), problems)
    card = Card.from_json(files.read_json(path), str(path)) if path.exists() else None
    labels = {label for row in lists["train"] for label in row.labels}
    known = card or cards.infer(labels, name=folder.name)
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
    way: Way,
    problems: Problems,
) -> None:
    from wsvad_jax.data.extract_files import extract_files

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
    way: Way,
    before: str,
) -> tuple[Any, str]:
    """Returns the extractor, and the snapshot's name as training finds it."""
    from wsvad_jax.clip.load import load
    from wsvad_jax.data.extraction import Extractor

    clip = way.clip or before or (card.clip if card else "")
    if not clip:
        raise InputError(
            f"{folder}: {len(found.missing)} of its videos have no features yet; pass --clip "
            f"NAME, a model of the Hugging Face hub like {MODEL} or the folder of one, "
            "to extract them"
        )
    if pathlib.Path(clip).expanduser().is_dir():
        clip = str(pathlib.Path(clip).expanduser().resolve())
    snapshot = load(clip)
    for remark in snapshot.remarks:
        print(remark, file=sys.stderr)
    made = next(iter(found.made.values()), None)
    here = protocols.of_snapshot(snapshot, made.resize if made else "")
    differs = made and protocols.encoder_difference(here, made.protocol)
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
        if differs := protocols.difference(extractor.protocol, made.protocol):
            raise InputError(
                f"{root}: its features were made by {folders.made_by(made)}, but "
                f"{folders.made_by(extractor)} is asked for ({differs}); move that "
                "folder away to extract all videos again"
            )
