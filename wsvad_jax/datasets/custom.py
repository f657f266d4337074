"""A custom folder: lists, features, truth and card to a dataset.

  FOLDER/train.csv, test.csv         video,label (several labels joined by '+')
  FOLDER/videos/VIDEO.mp4            optional where there are features (own_videos.py)
  FOLDER/features/VIDEO.npy          [T, D] or [N, T, D] (see data/axes.py), or
                                     VIDEO__0.npy ... crops (data/crops.py)
  FOLDER/features/VIDEO.json         optional: what extraction notes (data/sidecar.py)
  FOLDER/features/protocol.json      optional: how they were made (FeatureProtocol);
                                     else what all sidecars say
  FOLDER/test_segments.json          optional: true events of the test videos, in frames or
                                     seconds (data/truth_units.py)
  FOLDER/card.json                   optional: classes, prompts, stride, crop to test

Without a card the classes are the training labels, normal first.
"""

import dataclasses
import os
import pathlib
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from wsvad_jax.data import axes, cards, feature_protocols, sidecar
from wsvad_jax.data.cards import Card
from wsvad_jax.data.crops import FeatureIndex, crop_files, split_crop_name
from wsvad_jax.data.feature_files import (
    OWN,
    ErrorCollector,
    FeatureFiles,
    Records,
    check_headers,
    find_npy_files,
    keep_usual_crops,
)
from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.data.tfds_builder import DatasetInfo
from wsvad_jax.data.video_names import Hints, normalize_name
from wsvad_jax.datasets.custom_ground_truth import read_truth, with_truth
from wsvad_jax.datasets.missing_files import VIDEOS, beside, passed_over
from wsvad_jax.datasets.split_lists import (
    SPLITS,
    Row,
    label_of,
    read_lists,
    video_id,
    without_doubles,
)
from wsvad_jax.utils import files, flags
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.walk import Passed

TRUTH = "test_segments.json"
MODEL = "openai/clip-vit-base-patch16"  # an example in messages


@dataclasses.dataclass(frozen=True)
class Collection:
    """What `builder.write_dataset` takes, and what there is to say about it."""

    name: str
    card: Card
    protocol: FeatureProtocol
    splits: Mapping[str, Records]
    remarks: Sequence[str] = ()
    about: DatasetInfo = dataclasses.field(default_factory=DatasetInfo)


def load(
    folder: str | os.PathLike,
    problems: ErrorCollector | None = None,
    *,
    features: str | os.PathLike | None = None,
    slack: int = 0,
    without: Container[str] = (),
) -> Collection:
    """Opens a folder: everything but the features' values is checked here.

    Args:
      folder: see the module.
      features: folder of the features where it is another than FOLDER/features.
      problems: takes errors of single videos; the default raises the first.
      slack: snippets by which a test video's features may be shorter or longer than
        its truth says; each such video is remarked.
      without: names of listed videos that are left out.

    Raises InputError where a file is missing or is not what it should be.
    """
    folder = pathlib.Path(folder).expanduser().absolute()
    root = pathlib.Path(features or folder / "features").expanduser().absolute()
    problems = problems or ErrorCollector()
    named, (protocol, clip) = read_lists(folder), read_protocol(root / "protocol.json")
    card = card_of(folder, root, named["train"], protocol, clip)
    lists = without_doubles(named, problems)
    index, remarks = _found(folder, root, lists, problems)
    videos = {}
    for split, rows in lists.items():
        rows = [row for row in rows if row.video not in without]
        videos[split] = _videos(rows, card, index, root, problems)
    sized = check_headers([v for split in SPLITS for v in videos[split]], problems)
    sized = of_stated_crops(root / "protocol.json", sized, problems)
    sized, said, made = with_sidecars(sized, card, problems, protocol)
    remarks += said
    by_name = {v.video: v for v in sized}
    for split in SPLITS:
        kept = [by_name[v.video] for v in videos[split] if v.video in by_name]
        videos[split] = keep_usual_crops(kept, problems)
    _check_sides(folder, videos["train"])
    check_crop(folder, card, videos["test"])
    if (folder / TRUTH).exists():
        truth = read_truth(folder / TRUTH)
        videos["test"], said = with_truth(
            videos["test"], lists["test"], truth, card, problems, slack=slack
        )
        remarks += said
    crops = videos["train"][0].num_crops
    protocol = dataclasses.replace(made, stride=card.stride, crops=crops)
    splits = {s: Records(v, card.stride, problems) for s, v in videos.items()}
    return Collection(card.name, card, protocol, splits, remarks)


def read_protocol(path: pathlib.Path) -> tuple[FeatureProtocol, str]:
    """Reads how features were made, and the CLIP snapshot's name where it is told.

    Raises:
      InputError: not JSON, or values of other types.
    """
    if not path.exists():
        return FeatureProtocol(), ""
    value = feature_protocols.checked(path, files.read_json(path))
    known = dataclasses.asdict(FeatureProtocol())
    made = FeatureProtocol(**{k: v for k, v in value.items() if k in known})
    return made, value.get("clip", "")


def with_sidecars(
    videos: Sequence[FeatureFiles],
    card: Card,
    problems: ErrorCollector,
    protocol: FeatureProtocol | None = None,
) -> tuple[list[FeatureFiles], list[str], FeatureProtocol]:
    """Gives videos their exact length where a sidecar has it.

    Returns also remarks, and how the features were made: what the folder says
    (`protocol`), or what all sidecars agree on. Features that sidecars say were made in
    different ways, or in another than the folder says, are problems.
    """
    remarks = axes.remarks([(v.layout, v.num_crops) for v in videos])
    good, first = [], None
    protocol, without = protocol or FeatureProtocol(), 0
    for video in videos:
        path = sidecar.sidecar_path(video.paths[0])
        if not os.path.isfile(path):  # nor may its name be too long
            good.append(video)
            without += 1
            continue
        try:
            side = sidecar.read(path)
            _check_sidecar(side, path, video, card)
            first = first or side
            _check_way(side, path, first, protocol)
        except InputError as e:
            problems(e)
            continue
        good.append(dataclasses.replace(video, num_frames=side.num_frames))
        if side.damage:
            remarks.append(f"video {video.video} is damaged: {side.damage}")
        if side.remark:
            remarks.append(f"video {video.video}: {side.remark}")
    if first and not without and protocol.encoder in feature_protocols.UNKNOWN:
        protocol = first.protocol
    elif first and without:
        remarks.append(
            f"{without} of {len(videos)} videos have no sidecar: whether their features "
            "were made as the others' isn't known"
        )
    return good, remarks, protocol


def _check_sidecar(
    side: sidecar.Sidecar, path: pathlib.Path, video: FeatureFiles, card: Card
) -> None:
    if side.stride != card.stride:
        raise InputError(
            f"{path}: features of {side.stride} frames a snippet, but the card's stride "
            f"is {card.stride}; correct the card or extract the video again"
        )
    if -(-side.num_frames // side.stride) != video.num_snippets:
        raise InputError(
            f"{path}: {side.num_frames} frames are not the {video.num_snippets} snippets "
            f"of {video.paths[0].name}; extract the video again"
        )


def _check_way(
    side: sidecar.Sidecar,
    path: pathlib.Path,
    first: sidecar.Sidecar,
    protocol: FeatureProtocol,
) -> None:
    """Compares a sidecar with the first one of its folder and the folder's protocol."""
    if differs := feature_protocols.difference(side.protocol, first.protocol):
        raise InputError(
            f"{path}: features made by {made_by(side)}, those of {first.video} by "
            f"{made_by(first)} ({differs}); extract all videos in one way"
        )
    noted = dataclasses.replace(protocol, stride=0, crops=0)  # which are counted
    if differs := feature_protocols.difference(side.protocol, noted):
        raise InputError(
            f"{path}: features made in another way than protocol.json beside them says "
            f"({differs}); correct that file, or extract all videos in one way"
        )


def made_by(made: Any) -> str:
    """Says in words how a sidecar's features were made, or an extractor's are."""
    return (
        f"{made.encoder} (stride {made.stride}, {made.crops} crops, frame {made.frame}, "
        f"resize {made.resize})"
    )


def of_stated_crops(
    path: pathlib.Path, videos: Sequence[FeatureFiles], problems: ErrorCollector
) -> list[FeatureFiles]:
    """Returns the videos that hold the number of crops that protocol.json states."""
    value = files.read_json(path) if path.exists() else {}
    good = []
    for video in videos:
        try:
            feature_protocols.check_crops(path, value, video.paths[0], video.num_crops)
        except InputError as e:
            problems(e)
            continue
        good.append(video)
    return good


def card_of(
    folder: pathlib.Path,
    root: pathlib.Path,
    rows: Sequence[Row],
    protocol: FeatureProtocol,
    clip: str,
) -> Card:
    """Returns the folder's card, or one made from the labels of its training list.

    Raises:
      InputError: a card that is none, or that the features' protocol contradicts.
    """
    path = folder / "card.json"
    if not path.exists():
        card = cards.infer_card(
            {label for r in rows for label in r.labels}, name=folder.name
        )
        return dataclasses.replace(card, stride=protocol.stride, clip=clip)
    labels = {label for row in rows for label in row.labels}
    card = Card.from_json(
        files.read_json(path),
        str(path),
        labels=labels,
        defaults={"name": folder.name, "stride": protocol.stride},
    )
    made = root / "protocol.json"
    stated = made.exists() and "stride" in files.read_json(made)
    if stated and protocol.stride != card.stride:
        raise InputError(
            f"{path}: stride {card.stride}, but {made} says {protocol.stride} frames a "
            "snippet; correct the card"
        )
    return card if card.clip else dataclasses.replace(card, clip=clip)


def _found(
    folder: pathlib.Path,
    root: pathlib.Path,
    lists: Mapping[str, Sequence[Row]],
    problems: ErrorCollector,
) -> tuple[FeatureIndex, list[str]]:
    """Returns the feature files by name, and remarks about what else is there."""
    _check_place(folder, root)
    passed = Passed()
    index = feature_files(
        root, {r.video for rows in lists.values() for r in rows}, passed
    )
    return index, passed_over(passed, lists, index, problems)


def name_of(folder: pathlib.Path) -> str:
    """Returns the name of a folder's dataset: its card's, else the folder's own.

    Raises:
      InputError: a card whose name is none.
    """
    path = folder / "card.json"
    value = files.read_json(path) if path.exists() else {}
    name = value.get("name", folder.name) if isinstance(value, dict) else ""
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{path}: name must be a text, found {name!r:.60}")
    return name


def _check_place(folder: pathlib.Path, root: pathlib.Path) -> None:
    if not root.is_dir():
        if where := beside(folder, root):
            raise InputError(where)
        hint = f"add one .npy file a video, or the videos in {folder / VIDEOS}"
        if (folder / VIDEOS).is_dir():
            extract = flags.command("prepare", folder, "--clip", MODEL)
            hint = f"{extract} extracts them"
        raise InputError(f"{root}: no such folder; {hint}")


def feature_files(
    root: pathlib.Path, listed: Iterable[str] = (), passed: Passed | None = None
) -> FeatureIndex:
    """Maps names, relative to the features' folder and without .npy, to files.

    Some extractors keep the video's extension: a.mp4.npy is of "a.mp4" and of "a".

    Args:
      root: the features' folder.
      listed: names of all videos, see `data.crops`.
      passed: takes what is not read.
    """
    index = FeatureIndex(root, listed)
    for path in find_npy_files(root, passed or Passed(), every_name=True):
        name = normalize_name(path.relative_to(root).as_posix().removesuffix(".npy"))
        index.add(name, path)
        video, crop = split_crop_name(name) or (name, None)
        while (shorter := video_id(video)) != video:
            video = shorter
            index.add(video + ("" if crop is None else f"__{crop}"), path)
    return index


def _videos(
    rows: Sequence[Row],
    card: Card,
    index: FeatureIndex,
    root: pathlib.Path,
    problems: ErrorCollector,
) -> list[FeatureFiles]:
    videos: dict[str, FeatureFiles] = {}
    hints = Hints(index, (VIDEOS, root.name))
    for row in rows:
        try:
            label = label_of(row, card)
            paths = crop_files(row.video, index, root)
        except InputError as e:
            problems(hints.add(e, row.video))
            continue
        videos.setdefault(row.video, FeatureFiles(row.video, label, paths, OWN))
    return list(videos.values())


def _check_sides(folder: pathlib.Path, train: Sequence[FeatureFiles]) -> None:
    for kind, count in (
        ("normal", sum(v.label == (0,) for v in train)),
        ("abnormal", sum(v.label != (0,) for v in train)),
    ):
        if not count:
            raise InputError(
                f"{folder / 'train.csv'}: no {kind} videos to train with; expected "
                "both normal and abnormal ones"
            )


def check_crop(folder: pathlib.Path, card: Card, test: Sequence[FeatureFiles]) -> None:
    """Raises InputError where test videos lack the crop that the card tests."""
    if test and card.test_crop >= test[0].num_crops:
        raise InputError(
            f"{folder / 'card.json'}: test_crop {card.test_crop}, but the test features "
            f"have {test[0].num_crops} crops (counted from 0); correct the card"
        )
