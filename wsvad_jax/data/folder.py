"""A folder of one's own: lists, features, truth and card to a dataset.

  FOLDER/train.csv, test.csv         video,label (several labels joined by '+')
  FOLDER/features/VIDEO.npy          [T, D], or VIDEO__0.npy, VIDEO__1.npy ... crops
  FOLDER/features/protocol.json      optional: how they were made (FeatureProtocol)
  FOLDER/test_segments.json          optional: true events of the test videos, in frames
  FOLDER/card.json                   optional: classes, prompts, stride, crop to test

Without a card the classes are the training labels, normal first.
"""

import csv
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

from wsvad_jax import files
from wsvad_jax.data import annotations, cards
from wsvad_jax.data.builder import About
from wsvad_jax.data.cards import Card
from wsvad_jax.data.features import (
    Problems,
    Records,
    Video,
    npy_files,
    same_crops,
    survey,
)
from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.errors import InputError

SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True)
class Collection:
    """What `builder.write_dataset` takes, and what there is to say about it."""

    name: str
    card: Card
    protocol: FeatureProtocol
    splits: Mapping[str, Records]
    remarks: Sequence[str] = ()
    about: About = dataclasses.field(default_factory=About)


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a list."""

    where: str
    video: str
    labels: tuple[str, ...]


def load(
    folder: str | os.PathLike,
    problems: Problems | None = None,
    *,
    features: str | os.PathLike | None = None,
    slack: int = 0,
) -> Collection:
    """Opens a folder: everything but the features' values is checked here.

    Args:
      folder: see the module.
      features: folder of the features where it is another than FOLDER/features.
      problems: takes errors of single videos; the default raises the first.
      slack: snippets by which a test video's features may be shorter or longer than
        its truth says; each such video is remarked.

    Raises:
      InputError: a file that is missing or is not what it should be.
    """
    folder = pathlib.Path(folder).expanduser().absolute()
    root = pathlib.Path(features or folder / "features").expanduser().absolute()
    problems = problems or Problems()
    lists = {split: read_list(folder / f"{split}.csv") for split in SPLITS}
    protocol, clip = read_protocol(root / "protocol.json")
    card = _card(folder, root, lists["train"], protocol, clip)
    lists = without_doubles(lists, problems)
    index = _feature_files(folder, root)
    videos = {
        split: _videos(rows, card, index, root, problems)
        for split, rows in lists.items()
    }
    sized = survey([v for split in SPLITS for v in videos[split]], problems)
    by_name = {v.video: v for v in sized}
    for split in SPLITS:
        kept = [by_name[v.video] for v in videos[split] if v.video in by_name]
        videos[split] = same_crops(kept, problems)
    _check_sides(folder, videos["train"])
    _check_crop(folder, card, videos["test"])
    path, remarks = folder / "test_segments.json", []
    if path.exists():
        truth = annotations.read_json(path)
        videos["test"], remarks = with_truth(
            videos["test"], lists["test"], truth, card, problems, slack=slack
        )
    crops = videos["train"][0].num_crops
    protocol = dataclasses.replace(protocol, stride=card.stride, crops=crops)
    splits = {s: Records(v, card.stride, problems) for s, v in videos.items()}
    return Collection(card.name, card, protocol, splits, remarks)


def read_list(path: pathlib.Path) -> list[Row]:
    """Reads `video,label` lines.

    Raises:
      InputError: no such file, no header, or a line of another form.
    """
    try:
        lines = list(csv.reader(annotations.files_text(path).splitlines()))
    except csv.Error as e:
        raise InputError(f"{path}: cannot be read as CSV ({e})") from None
    header = [word.strip() for word in lines[0]] if lines else []
    if header != ["video", "label"]:
        found = f"it begins with {','.join(header)!r:.60}" if header else "it is empty"
        raise InputError(
            f"{path}: expected the header video,label in line 1, but {found}"
        )
    rows = []
    for i, words in enumerate(lines[1:], 2):
        words = [word.strip() for word in words]
        if not any(words):
            continue
        if len(words) != 2 or not all(words):
            raise InputError(
                f"{path}:{i}: expected video,label, found {','.join(words)!r:.80}"
            )
        video, label = words
        parts = pathlib.PurePosixPath(video).parts
        if ".." in parts or video.startswith("/"):
            raise InputError(f"{path}:{i}: {video!r} is a path out of the folder")
        labels = tuple(dict.fromkeys(part.strip() for part in label.split("+")))
        rows.append(Row(f"{path}:{i}", video, labels))
    if not rows:
        raise InputError(f"{path}: the list names no video")
    return rows


def read_protocol(path: pathlib.Path) -> tuple[FeatureProtocol, str]:
    """Reads how features were made, and the CLIP snapshot's name where it is told.

    Raises:
      InputError: not JSON, or values of other types.
    """
    if not path.exists():
        return FeatureProtocol(), ""
    value = files.read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {value!r:.60}")
    known = {f.name: f.default for f in dataclasses.fields(FeatureProtocol)}
    for key, default in known.items():
        if not isinstance(value.get(key, default), type(default)):
            raise InputError(
                f"{path}: {key} must be of the kind of {default!r}, found "
                f"{value[key]!r:.60}"
            )
    clip = value.get("clip", "")
    if not isinstance(clip, str):
        raise InputError(f"{path}: clip must be a text, found {clip!r:.60}")
    return FeatureProtocol(**{k: v for k, v in value.items() if k in known}), clip


def without_doubles(
    lists: Mapping[str, Sequence[Row]], problems: Problems
) -> dict[str, list[Row]]:
    """Reports videos that are named twice, in one list or in both; the first stays."""
    seen: dict[str, str] = {}
    kept: dict[str, list[Row]] = {split: [] for split in lists}
    for split, rows in lists.items():
        for row in rows:
            if row.video not in seen:
                seen[row.video] = row.where
                kept[split].append(row)
                continue
            problems(
                InputError(
                    f"{row.where}: video {row.video} is already in {seen[row.video]}; "
                    "keep it in one place"
                )
            )
    return kept


def with_truth(
    videos: Sequence[Video],
    rows: Sequence[Row],
    truth: Mapping[str, annotations.Truth],
    card: Card,
    problems: Problems,
    *,
    slack: int = 0,
    strict: bool = True,
) -> tuple[list[Video], list[str]]:
    """Gives test videos their events and returns remarks; see `annotations.settle`.

    Truth of a video that `rows`, the test list, lacks is a problem.
    """
    listed = {row.video for row in rows}
    for name, item in truth.items():
        if name not in listed:
            problems(
                InputError(
                    f"{item.source}: video {name} is not in the test list; correct its "
                    "name or add it to the list"
                )
            )
    settled, remarks = [], []
    for video in videos:
        item = truth.get(video.video)
        try:
            if item is not None and item.label is not None:
                _same_label(item, video, card)
            segments, remark = annotations.settle(
                item,
                video.video,
                video.label,
                video.num_snippets,
                card,
                slack=slack,
                strict=strict,
            )
        except InputError as e:
            problems(e)
            continue
        settled.append(dataclasses.replace(video, segments=segments))
        remarks += remark
    return settled, remarks


def _same_label(truth: annotations.Truth, video: Video, card: Card) -> None:
    names = {card.class_names[c] for c in video.label}
    if names != {part.strip() for part in (truth.label or "").split("+")}:
        raise InputError(
            f"{truth.source}: video {video.video} is labelled {truth.label}, but "
            f"{'+'.join(sorted(names))} in the test list; correct one of them"
        )


def _card(
    folder: pathlib.Path,
    root: pathlib.Path,
    rows: Sequence[Row],
    protocol: FeatureProtocol,
    clip: str,
) -> Card:
    path = folder / "card.json"
    if not path.exists():
        card = cards.infer(
            {label for r in rows for label in r.labels}, name=folder.name
        )
        return dataclasses.replace(card, stride=protocol.stride, clip=clip)
    card = Card.from_json(files.read_json(path), str(path))
    made = root / "protocol.json"
    if made.exists() and protocol.stride != card.stride:
        raise InputError(
            f"{path}: stride {card.stride}, but {made} says {protocol.stride} frames a "
            "snippet; correct the card"
        )
    return card if card.clip else dataclasses.replace(card, clip=clip)


def _feature_files(folder: pathlib.Path, root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Maps names, relative to the features' folder and without .npy, to files."""
    if not root.is_dir():
        hint = "add one .npy file a video"
        if (folder / "videos").is_dir():
            hint = (
                f"first run python -m wsvad_jax.extract {folder / 'videos'} --clip NAME "
                f"--output {root}"
            )
        raise InputError(f"{root}: no such folder; {hint}")
    found = npy_files(root)
    return {p.relative_to(root).as_posix().removesuffix(".npy"): p for p in found}


def _videos(
    rows: Sequence[Row],
    card: Card,
    index: Mapping[str, pathlib.Path],
    root: pathlib.Path,
    problems: Problems,
) -> list[Video]:
    videos: dict[str, Video] = {}
    for row in rows:
        try:
            label = label_of(row, card)
            paths = crop_files(row.video, index, root)
        except InputError as e:
            problems(e)
            continue
        videos.setdefault(row.video, Video(row.video, label, paths))
    return list(videos.values())


def label_of(row: Row, card: Card) -> tuple[int, ...]:
    """Returns a row's classes.

    Raises:
      InputError: a label that no class has, or normal beside another.
    """
    try:
        label = tuple(sorted(card.index(name) for name in row.labels))
    except InputError as e:
        raise InputError(f"{row.where}: video {row.video} has the {e}") from None
    if 0 in label and len(label) > 1:
        raise InputError(
            f"{row.where}: video {row.video} is labelled {'+'.join(row.labels)}, normal "
            "and not; keep one"
        )
    return label


def crop_files(
    video: str, index: Mapping[str, pathlib.Path], root: pathlib.Path
) -> tuple[pathlib.Path, ...]:
    """Returns a video's file, or its crops' files, among the files by name.

    Raises:
      InputError: there is none, a crop is missing, or there are both.
    """
    crops = []
    while (name := f"{video}__{len(crops)}") in index:
        crops.append(index[name])
    if video in index and crops:
        raise InputError(
            f"{index[video]}: there is {crops[0].name} as well; keep one of the two"
        )
    if video in index:
        return (index[video],)
    if not crops:
        raise InputError(
            f"{root / video}.npy: the feature file is missing; extract the video or "
            "take it off the list"
        )
    return tuple(crops)


def _check_sides(folder: pathlib.Path, train: Sequence[Video]) -> None:
    for kind, count in (
        ("normal", sum(v.label == (0,) for v in train)),
        ("abnormal", sum(v.label != (0,) for v in train)),
    ):
        if not count:
            raise InputError(
                f"{folder / 'train.csv'}: no {kind} videos to train with; expected "
                "both normal and abnormal ones"
            )


def _check_crop(folder: pathlib.Path, card: Card, test: Sequence[Video]) -> None:
    if test and card.test_crop >= test[0].num_crops:
        raise InputError(
            f"{folder / 'card.json'}: test_crop {card.test_crop}, but the test features "
            f"have {test[0].num_crops} crops (counted from 0); correct the card"
        )
