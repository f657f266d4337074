"""Opens the public datasets from released features and lists.

The layout of the features follows from names and shapes of the files:
  CLASS/NAME__c.npy or NAME__c.npy   one file per crop, [T, D] (VadCLIP's, XD's I3D)
  NAME.npy                           one file per video, [T, D] (CLIP-TSA's, C3D)
  NAME.npy, NAME_i3d.npy, NAME_swin.npy   one file with all crops, [T, N, D] or [N, T, D] (I3D),
                                     distinguished as in data/axes.py
Two files of one video and crop are an error.
Lists and ground truth have the file names in `public_specs`. Nothing is downloaded or
redistributed; the metadata links to the data's homepage.
"""

import dataclasses
import os
import pathlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from wsvad_jax.data import axes
from wsvad_jax.data.cards import Card
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
from wsvad_jax.data.video_names import normalize_name
from wsvad_jax.datasets.custom import SourceDataset
from wsvad_jax.datasets.custom_ground_truth import add_ground_truth
from wsvad_jax.datasets.ground_truth import read_text, video_name
from wsvad_jax.datasets.missing_files import report_skipped_files
from wsvad_jax.datasets.public_specs import PUBLIC_DATASETS
from wsvad_jax.datasets.split_lists import (
    ListEntry,
    class_indices,
    csv_lines,
    drop_duplicates,
)
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.file_search import SkippedFiles

CLIP = "openai/clip-vit-base-patch16"  # of the released 512-wide features
CropFiles = dict[
    str, dict[int | None, pathlib.Path]
]  # video -> crop, None for all in one


class FilesByCrop(CropFiles):
    """Feature files by video and crop, and pairs of files for the same crop."""

    def __init__(self):
        super().__init__()
        self.twins: dict[str, tuple[pathlib.Path, pathlib.Path]] = {}


def load(
    name: str,
    features: str | os.PathLike,
    annotations_dir: str | os.PathLike,
    collector: ErrorCollector | None = None,
    *,
    slack: int = 0,
) -> SourceDataset:
    """Opens a downloaded public dataset.

    Args:
      name: key of `PUBLIC_DATASETS`.
      features: folder of the released features; subfolders are searched.
      annotations_dir: folder of the lists and the ground truth.
      collector: collector of errors about single videos; None raises the first.
      slack: allowed difference in snippets between features and ground truth.

    Raises:
      InputError: a file is missing or invalid.
    """
    public, collector = PUBLIC_DATASETS[name], collector or ErrorCollector()
    root, folder = pathlib.Path(features), pathlib.Path(annotations_dir)
    for path, flag in ((root, "--features"), (folder, "--annotations")):
        if not path.is_dir():
            raise InputError(f"{flag} {path}: no such folder")

    lists = read_lists(name, folder, collector)
    found, file_remarks = _find_features(root, lists, collector)
    remarks, videos, card = [], {}, public.card
    for split, rows in lists.items():
        crops = most_common_crops(rows, found)
        videos[split] = _list_videos(rows, card, found, crops, root, collector)
        if split == "test":
            card, remarks = _adjust_test_crop(card, crops)

    # Headers give lengths and crops, before any features are read.
    sized = check_headers([v for rows in videos.values() for v in rows], collector)
    if not sized:
        raise InputError(f"{root}: no features of the videos listed in {folder}")
    by_name = {v.video: v for v in sized}
    for split, rows in videos.items():
        kept = [by_name[v.video] for v in rows if v.video in by_name]
        videos[split] = keep_most_common_crops(kept, collector)

    path = _first_existing(folder, public.truth)
    truth = public.read_ground_truth(path, [row.video for row in lists["test"]])
    videos["test"], truth_remarks = add_ground_truth(
        videos["test"], lists["test"], truth, card, collector, slack=slack, strict=False
    )

    # Only features of CLIP ViT-B/16 are 512 wide.
    card = dataclasses.replace(card, clip=CLIP if sized[0].width == 512 else "")
    remarks = axes.remarks([(v.layout, v.num_crops) for v in sized]) + remarks
    protocol = FeatureProtocol(card.clip or "unknown", card.stride, sized[0].num_crops)
    splits = {s: Records(v, card.stride, collector) for s, v in videos.items()}
    return SourceDataset(
        name,
        card,
        protocol,
        splits,
        remarks + file_remarks + truth_remarks,
        public.about,
    )


def _label_of_msad(video: str) -> str:
    if video.lower().startswith("msad_normal"):
        return "Normal"
    return re.sub(r"_\d+$", "", video)


def _label_of_ubnormal(video: str) -> str:
    return {"normal": "Normal", "abnormal": "Anomaly"}.get(video.partition("_")[0], "")


# Datasets whose video names state the class.
NAMED_LABELS = {"msad": _label_of_msad, "ubnormal": _label_of_ubnormal}


def read_lists(
    name: str, folder: pathlib.Path, collector: ErrorCollector
) -> dict[str, list[ListEntry]]:
    """Reads the lists of a public dataset and compares their lengths with its counts.

    Raises:
      InputError: no list, or a line with an invalid label.
    """
    public, lists = PUBLIC_DATASETS[name], {}
    for split, names in public.lists.items():
        paths = _first_complete(folder, names)
        rows = [row for path in paths for row in _read_list(path, name)]
        if len(rows) != public.counts[split]:
            collector(
                InputError(
                    f"{' and '.join(map(str, paths))}: {len(rows)} {split} videos; {name} has "
                    f"{public.counts[split]}; get the whole list"
                )
            )
        lists[split] = rows
    return drop_duplicates(lists, collector)


def _read_list(path: pathlib.Path, name: str) -> list[ListEntry]:
    rows: dict[str, ListEntry] = {}
    if path.suffix == ".csv":
        lines = csv_lines(path)
        if not lines or lines[0][1][1:] != ["label"]:
            raise InputError(f"{path}: expected a header like video,label in line 1")
        lines = lines[1:]
    else:
        text = enumerate(read_text(path).splitlines(), 1)
        lines = [(i, line.split(",")) for i, line in text if line.strip()]
    if not lines:
        raise InputError(f"{path}: the list names no video")

    for i, words in lines:
        where = f"{path}:{i}"
        if path.suffix == ".list":  # the path of a feature file
            words = [_without_encoder(words[0].strip()), ""]
        elif path.suffix != ".csv":  # CLASS/NAME.mp4, or NAME alone
            words = [words[0], words[0].strip().rpartition("/")[0]]
        if len(words) != 2:
            raise InputError(f"{where}: expected video,label, found {','.join(words)}")

        # The release lists every crop of a video on a line of its own.
        video = re.sub(r"__\d+$", "", video_name(words[0].strip()))
        labels = class_names_of_label(name, video, words[1].strip(), where)
        row = rows.setdefault(video, ListEntry(where, video, labels))
        if row.labels != labels or (row.where != where and words[0] == video):
            raise InputError(f"{where}: video {video} is already in {row.where}")
    return list(rows.values())


def class_names_of_label(
    name: str, video: str, label: str, where: str
) -> tuple[str, ...]:
    """Returns the class names in a public list's label.

    XD-Violence: `B2-G-0` is classes B2 and G, `A` is normal, and the video's name ends
    with the same label. UCF-Crime's normal videos are in folders with other names. In
    ShanghaiTech's text lists, videos with four-digit numbers have an anomaly: they are
    from the dataset's first test set. In MSAD, the name is the class and a number, or
    begins with `MSAD_normal`. In UBnormal, it begins with `normal` or `abnormal`.

    Raises:
      InputError: an invalid label, or one that contradicts the name.
    """
    known = PUBLIC_DATASETS[name].card.class_names
    if name == "xd":
        classes = tuple(dict.fromkeys(c for c in label.split("-") if c != "0"))
        named = video.rpartition("_label_")[2]
        if "_label_" in video and named != label:
            raise InputError(
                f"{where}: video {video} is listed with label {label}, but its name "
                f"says {named}; correct one of them"
            )
    else:
        if name == "shanghaitech" and not label:
            label = "Anomaly" if re.search(r"_\d{4}$", video) else "Normal"
        if name in NAMED_LABELS and not label:
            label = NAMED_LABELS[name](video)
        # The list names the folder of normal videos instead of a class.
        normal = label.endswith("Normal_Videos_Anomaly")
        classes = ("Normal" if normal else label,)
    if not classes or not set(classes) <= set(known):
        raise InputError(
            f"{where}: video {video} has the label {label!r}; expected "
            f"{', '.join(known)}" + (", joined by '-'" if name == "xd" else "")
        )
    return classes


def feature_files(
    root: pathlib.Path, skipped: SkippedFiles | None = None
) -> FilesByCrop:
    """Maps videos to their feature files, by crop, anywhere under `root`."""
    found = FilesByCrop()
    for path in find_npy_files(root, skipped):
        base, crop = normalize_name(path.name.removesuffix(".npy")), None
        if match := re.fullmatch(r"(.*)__(\d+)", base):
            base, crop = match[1], int(match[2])
        base = _without_encoder(video_name(base))
        if found.setdefault(base, {}).setdefault(crop, path) != path:
            found.twins[base] = found[base][crop], path
    return found


def _without_encoder(name: str) -> str:
    """Returns a feature file's name without its extension and its encoder."""
    return re.sub(r"_(i3d|c3d|clip|swin)$", "", name.removesuffix(".npy"))


def _find_features(
    root: pathlib.Path,
    lists: Mapping[str, Sequence[ListEntry]],
    collector: ErrorCollector,
) -> tuple[FilesByCrop, list[str]]:
    """Returns the feature files, and remarks about other files under `root`."""
    skipped = SkippedFiles()
    found = feature_files(root, skipped)
    return found, report_skipped_files(skipped, lists, found, collector)


def most_common_crops(
    rows: Sequence[ListEntry], found: CropFiles
) -> tuple[int | None, ...]:
    """Returns the crops that most videos of a list have; (None,) is one file of all crops.

    Raises:
      InputError: no video has features, or a crop is missing in most videos.
    """
    counts = Counter(frozenset(found.get(row.video, ())) for row in rows)
    counts.pop(frozenset(), None)
    for both in [c for c in counts if None in c and len(c) > 1]:
        # `_list_videos` reports the files of such videos.
        counts[both - {None}] += counts.pop(both)

    if not counts:
        raise InputError(
            f"{rows[0].where.rpartition(':')[0]}: none of its {len(rows)} videos has a "
            "feature file under --features; check the folder"
        )

    crops = max(counts, key=counts.__getitem__)
    ordered = tuple(sorted(crops, key=lambda c: -1 if c is None else c))
    if len(ordered) > 1 and ordered != tuple(range(len(ordered))):
        raise InputError(
            f"most videos of {rows[0].where.rpartition(':')[0]} have the crops "
            f"{', '.join(map(str, ordered))}; expected 0, 1, 2 ... or one of them"
        )
    return ordered


def _list_videos(
    rows: Sequence[ListEntry],
    card: Card,
    found: FilesByCrop,
    crops: Sequence[int | None],
    root: pathlib.Path,
    collector: ErrorCollector,
) -> list[FeatureFiles]:
    videos = []
    for row in rows:
        files = found.get(row.video, {})
        if row.video in found.twins:
            one, other = found.twins[row.video]
            collector(
                InputError(
                    f"{one} and {other} are both features of video {row.video}, maybe "
                    "of two kinds (RGB and flow); point --features at the folder of "
                    "one kind, or keep one of the two"
                )
            )
            continue

        if None in files and len(files) > 1:
            crop = next(path for c, path in files.items() if c is not None)
            collector(
                InputError(
                    f"{files[None]} and {crop} are both features of video {row.video}, "
                    "one of all crops and one of a single crop; keep one of the two"
                )
            )
            continue

        # The crops are those of most videos, so a video with fewer is incomplete.
        missing = [c for c in crops if c not in files]
        if missing:
            suffix = "" if missing[0] is None else f"__{missing[0]}"
            collector(
                InputError(
                    f"{root}: the feature file {row.video}{suffix}.npy is missing; get "
                    "it, or leave its video out with --skip-bad"
                )
            )
            continue

        paths = tuple(files[c] for c in crops)
        layout = UNKNOWN_LAYOUT if len(paths) == 1 else "TD"
        videos.append(FeatureFiles(row.video, class_indices(row, card), paths, layout))
    return videos


def _adjust_test_crop(
    card: Card, crops: Sequence[int | None]
) -> tuple[Card, list[str]]:
    """Returns a card whose test crop exists in the dataset, and remarks."""
    # A test crop only matters if the features have several.
    if len(crops) != 1 or not card.test_crop:
        return card, []
    crop = (
        "are one file per video" if crops[0] is None else f"have crop {crops[0]} only"
    )
    remark = f"the test features {crop}: the card tests crop 0, not {card.test_crop}"
    return dataclasses.replace(card, test_crop=0), [remark]


def _first_existing(folder: pathlib.Path, names: Sequence[str]) -> pathlib.Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise InputError(f"{folder}: expected one of {', '.join(names)}, found none")


def _first_complete(
    folder: pathlib.Path, lists: Sequence[str | tuple[str, ...]]
) -> list[pathlib.Path]:
    """Returns the files of the first list that is there as a whole."""
    for names in lists:
        paths = [folder / n for n in ((names,) if isinstance(names, str) else names)]
        if all(path.exists() for path in paths):
            return paths

    forms = [n if isinstance(n, str) else " with ".join(n) for n in lists]
    raise InputError(f"{folder}: expected one of {', '.join(forms)}, found none")
