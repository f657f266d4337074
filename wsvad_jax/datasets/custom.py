"""Opens a custom folder: lists, features, ground truth and card.

  FOLDER/train.csv, test.csv         video,label (several labels joined by '+'), or
                                     those of a split (own_lists.py)
  FOLDER/videos/VIDEO.mp4            optional if there are features (custom_videos.py)
  FOLDER/features/VIDEO.npy          [T, D] or [N, T, D] (see data/axes.py), or
                                     VIDEO__0.npy ... crops (data/crops.py)
  FOLDER/features/VIDEO.json         optional: sidecar of extraction (data/sidecar.py)
  FOLDER/features/protocol.json      optional: feature settings; else the sidecars'
  FOLDER/test_segments.json          optional: events of the test videos, in frames or
                                     seconds (time_units.py); or test_segments.csv
                                     with video,start,end in seconds (truth_csv.py)
  FOLDER/card.json                   optional: classes, prompts, stride, crop to test

Without a card the classes are the training labels, normal first.
"""

import dataclasses
import os
import pathlib
from collections.abc import Container, Iterable, Mapping, Sequence

from wsvad_jax.data import cards, feature_protocols
from wsvad_jax.data.cards import Card
from wsvad_jax.data.crops import FeatureIndex, crop_files, split_crop_name
from wsvad_jax.data.feature_files import (
    UNKNOWN_LAYOUT,
    ErrorCollector,
    FeatureFiles,
    Records,
    check_headers,
    find_npy_files,
    keep_most_common_crops,
)
from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.data.tfds_builder import DatasetInfo
from wsvad_jax.data.video_names import Hints, normalize_name
from wsvad_jax.datasets.custom_ground_truth import (
    add_ground_truth,
    find_ground_truth,
    of_test_videos,
    read_ground_truth,
)
from wsvad_jax.datasets.custom_sidecars import add_sidecars
from wsvad_jax.datasets.missing_files import (
    VIDEOS,
    misplaced_videos,
    report_skipped_files,
)
from wsvad_jax.datasets.split_lists import (
    SPLITS,
    ListEntry,
    OwnLists,
    class_indices,
    drop_duplicates,
    read_lists,
    video_id,
)
from wsvad_jax.utils import files, flags
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.file_search import SkippedFiles

EXAMPLE_CLIP = "openai/clip-vit-base-patch16"


@dataclasses.dataclass(frozen=True)
class SourceDataset:
    """A dataset's card, protocol and videos, ready for `tfds_builder.write_dataset`."""

    name: str
    card: Card
    protocol: FeatureProtocol
    splits: Mapping[str, Records]
    remarks: Sequence[str] = ()
    about: DatasetInfo = dataclasses.field(default_factory=DatasetInfo)


def load(
    folder: str | os.PathLike,
    collector: ErrorCollector | None = None,
    *,
    features: str | os.PathLike | None = None,
    slack: int = 0,
    without: Container[str] = (),
    own: OwnLists | None = None,
) -> SourceDataset:
    """Opens a custom folder and checks all but the values of the features.

    Args:
      folder: custom folder, as described in this module.
      collector: collector of errors about single videos; None raises the first.
      features: folder of the features; None is FOLDER/features.
      slack: allowed difference in snippets between the features of a test video and
        its ground truth; a difference gives a remark.
      without: names of listed videos to leave out.
      own: lists of the folder; None reads its train.csv and test.csv.

    Raises:
      InputError: a file is missing or invalid.
    """
    folder = pathlib.Path(folder).expanduser().absolute()
    root = pathlib.Path(features or folder / "features").expanduser().absolute()
    collector = collector or ErrorCollector()

    own = own or OwnLists(read_lists(folder))
    raw_lists = own.lists
    protocol, clip = read_protocol(root / "protocol.json")
    card = load_card(folder, root, raw_lists["train"], protocol, clip)
    lists = drop_duplicates(raw_lists, collector)

    # Feature files by name, then their headers, then their sidecars.
    index, remarks = _find_features(folder, root, lists, collector)
    videos = {}
    for split, rows in lists.items():
        rows = [row for row in rows if row.video not in without]
        videos[split] = _list_videos(rows, card, index, root, collector)
    sized = check_headers([v for split in SPLITS for v in videos[split]], collector)
    sized = drop_other_crop_counts(root / "protocol.json", sized, collector)
    sized, sidecar_remarks, protocol = add_sidecars(sized, card, collector, protocol)
    remarks += sidecar_remarks

    by_name = {v.video: v for v in sized}
    for split in SPLITS:
        kept = [by_name[v.video] for v in videos[split] if v.video in by_name]
        videos[split] = keep_most_common_crops(kept, collector)
    _check_both_labels(folder, videos["train"])
    check_test_crop(folder, card, videos["test"])

    if path := find_ground_truth(folder):
        truth = read_ground_truth(path)
        if own.is_split:
            truth, unused = of_test_videos(truth, lists)
            remarks += unused
        videos["test"], truth_remarks = add_ground_truth(
            videos["test"], lists["test"], truth, card, collector, slack=slack
        )
        remarks += truth_remarks

    crops = videos["train"][0].num_crops
    protocol = dataclasses.replace(protocol, stride=card.stride, crops=crops)
    splits = {s: Records(v, card.stride, collector) for s, v in videos.items()}
    return SourceDataset(card.name, card, protocol, splits, [*own.remarks, *remarks])


def read_protocol(path: pathlib.Path) -> tuple[FeatureProtocol, str]:
    """Reads protocol.json: feature settings, and the CLIP model's name or "".

    Raises:
      InputError: not JSON, or values of other types.
    """
    if not path.exists():
        return FeatureProtocol(), ""
    value = feature_protocols.checked(path, files.read_json(path))
    known = dataclasses.asdict(FeatureProtocol())
    protocol = FeatureProtocol(**{k: v for k, v in value.items() if k in known})
    return protocol, value.get("clip", "")


def drop_other_crop_counts(
    path: pathlib.Path, videos: Sequence[FeatureFiles], collector: ErrorCollector
) -> list[FeatureFiles]:
    """Returns the videos with as many crops as protocol.json states."""
    value = files.read_json(path) if path.exists() else {}
    kept = []
    for video in videos:
        try:
            feature_protocols.check_crops(path, value, video.paths[0], video.num_crops)
        except InputError as e:
            collector(e)
            continue
        kept.append(video)
    return kept


def load_card(
    folder: pathlib.Path,
    root: pathlib.Path,
    rows: Sequence[ListEntry],
    protocol: FeatureProtocol,
    clip: str,
) -> Card:
    """Returns the folder's card, or one made from the labels of its training list.

    Raises:
      InputError: an invalid card, or one that the features' protocol contradicts.
    """
    path = folder / "card.json"
    labels = {label for row in rows for label in row.labels}
    if not path.exists():
        card = cards.infer_card(labels, name=folder.name)
        return dataclasses.replace(card, stride=protocol.stride, clip=clip)

    card = Card.from_json(
        files.read_json(path),
        str(path),
        labels=labels,
        defaults={"name": folder.name, "stride": protocol.stride},
    )

    # The card can't change the stride of existing features.
    protocol_path = root / "protocol.json"
    stated = protocol_path.exists() and "stride" in files.read_json(protocol_path)
    if stated and protocol.stride != card.stride:
        raise InputError(
            f"{path}: stride {card.stride}, but {protocol_path} says {protocol.stride} "
            "frames per snippet; correct the card"
        )
    return card if card.clip else dataclasses.replace(card, clip=clip)


def _find_features(
    folder: pathlib.Path,
    root: pathlib.Path,
    lists: Mapping[str, Sequence[ListEntry]],
    collector: ErrorCollector,
) -> tuple[FeatureIndex, list[str]]:
    """Returns the feature files by name, and remarks about other files."""
    _check_features_folder(folder, root)
    skipped = SkippedFiles()
    listed = {r.video for rows in lists.values() for r in rows}
    index = index_feature_files(root, listed, skipped)
    return index, report_skipped_files(skipped, lists, index, collector)


def dataset_name(folder: pathlib.Path) -> str:
    """Returns the name of a folder's dataset: its card's, else the folder's.

    Raises:
      InputError: the card's name is not a text.
    """
    path = folder / "card.json"
    value = files.read_json(path) if path.exists() else {}
    name = value.get("name", folder.name) if isinstance(value, dict) else ""
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{path}: name must be a text, found {name!r:.60}")
    return name


def _check_features_folder(folder: pathlib.Path, root: pathlib.Path) -> None:
    if root.is_dir():
        return
    if message := misplaced_videos(folder, root):
        raise InputError(message)

    hint = f"add one .npy file per video, or the videos in {folder / VIDEOS}"
    if (folder / VIDEOS).is_dir():
        command = flags.command("prepare", folder, "--clip", EXAMPLE_CLIP)
        hint = f"{command} extracts them"
    raise InputError(f"{root}: no such folder; {hint}")


def index_feature_files(
    root: pathlib.Path,
    listed: Iterable[str] = (),
    skipped: SkippedFiles | None = None,
) -> FeatureIndex:
    """Maps names, relative to the features' folder and without .npy, to files.

    Some extractors keep the video's extension: a.mp4.npy belongs to "a.mp4" and "a".

    Args:
      root: folder of the features.
      listed: names of all videos, see `data.crops`.
      skipped: collector of files that are not read.
    """
    index = FeatureIndex(root, listed)
    for path in find_npy_files(root, skipped or SkippedFiles(), every_name=True):
        name = normalize_name(path.relative_to(root).as_posix().removesuffix(".npy"))
        index.add(name, path)

        # Shorter names keep the crop number.
        video, crop = split_crop_name(name) or (name, None)
        while (shorter := video_id(video)) != video:
            video = shorter
            index.add(video + ("" if crop is None else f"__{crop}"), path)
    return index


def _list_videos(
    rows: Sequence[ListEntry],
    card: Card,
    index: FeatureIndex,
    root: pathlib.Path,
    collector: ErrorCollector,
) -> list[FeatureFiles]:
    videos: dict[str, FeatureFiles] = {}
    hints = Hints(index, (VIDEOS, root.name))
    for row in rows:
        try:
            label = class_indices(row, card)
            paths = crop_files(row.video, index, root)
        except InputError as e:
            collector(hints.add(e, row.video))
            continue
        video = FeatureFiles(row.video, label, paths, UNKNOWN_LAYOUT)
        videos.setdefault(row.video, video)
    return list(videos.values())


def _check_both_labels(folder: pathlib.Path, train: Sequence[FeatureFiles]) -> None:
    normal = sum(video.label == (0,) for video in train)
    for kind, number in (("normal", normal), ("abnormal", len(train) - normal)):
        if not number:
            raise InputError(
                f"{folder / 'train.csv'}: no {kind} videos to train with; add some"
            )


def check_test_crop(
    folder: pathlib.Path, card: Card, test: Sequence[FeatureFiles]
) -> None:
    """Raises InputError if the test videos lack the card's test crop."""
    if test and card.test_crop >= test[0].num_crops:
        raise InputError(
            f"{folder / 'card.json'}: test_crop {card.test_crop}, but the test features "
            f"have {test[0].num_crops} crops (counted from 0); correct the card"
        )
