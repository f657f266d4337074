"""UCF-Crime, XD-Violence and ShanghaiTech from their released features and lists.

Feature layouts, told apart by what the files are called and hold:
  CLASS/NAME__c.npy or NAME__c.npy   one file a crop, [T, D] (VadCLIP's, XD's I3D)
  NAME.npy                           one file a video, [T, D] (CLIP-TSA's, C3D)
  NAME.npy or NAME_i3d.npy           all crops in a file, [T, N, D] or [N, T, D] (I3D),
                                     told apart as in data/axes.py
Two files of one video and crop are an error.
Lists and truth are found by their file names, see `PUBLIC`. Nothing is downloaded or
passed on; the metadata links to where the data lives.
"""

import dataclasses
import os
import pathlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from wsvad_jax.data import axes, cards
from wsvad_jax.data.cards import Card
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
from wsvad_jax.data.video_names import normalize_name
from wsvad_jax.datasets import ground_truth
from wsvad_jax.datasets.custom import SourceDataset
from wsvad_jax.datasets.custom_ground_truth import add_ground_truth
from wsvad_jax.datasets.ground_truth import GroundTruth, read_text, video_name
from wsvad_jax.datasets.missing_files import report_skipped_files
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
    """Feature files, and two files of the same video and crop where there are."""

    def __init__(self):
        super().__init__()
        self.twins: dict[str, tuple[pathlib.Path, pathlib.Path]] = {}


@dataclasses.dataclass(frozen=True)
class PublicDataset:
    """What is known of a public dataset; of several file names the first is taken."""

    card: Card
    counts: Mapping[str, int]  # videos of each split
    lists: Mapping[str, Sequence[str]]
    truth: Sequence[str]
    read_truth: Callable[[pathlib.Path, Sequence[str]], dict[str, GroundTruth]]
    about: DatasetInfo


def load(
    name: str,
    features: str | os.PathLike,
    annotations_dir: str | os.PathLike,
    problems: ErrorCollector | None = None,
    *,
    slack: int = 0,
) -> SourceDataset:
    """Opens a public dataset as downloaded.

    Args:
      name: 'ucf', 'xd' or 'shanghaitech'.
      features: folder of the released features, searched with its subfolders.
      annotations_dir: folder of the lists and the truth.
      problems: takes errors of single videos; the default raises the first.
      slack: snippets by which a test video's features and truth may differ in length.

    Raises:
      InputError: a file that is missing or is not what it should be.
    """
    public, problems = PUBLIC_DATASETS[name], problems or ErrorCollector()
    root, folder = pathlib.Path(features), pathlib.Path(annotations_dir)
    for path, flag in ((root, "--features"), (folder, "--annotations")):
        if not path.is_dir():
            raise InputError(f"{flag} {path}: no such folder")
    lists = read_lists(name, folder, problems)
    found, over = _find_features(root, lists, problems)
    remarks, videos, card = [], {}, public.card
    for split, rows in lists.items():
        crops = most_common_crops(rows, found)
        videos[split] = _list_videos(rows, card, found, crops, root, problems)
        if split == "test":
            card, remarks = _adjust_test_crop(card, crops)
    sized = check_headers([v for rows in videos.values() for v in rows], problems)
    if not sized:
        raise InputError(f"{root}: no features of the videos listed in {folder}")
    by_name = {v.video: v for v in sized}
    for split, rows in videos.items():
        kept = [by_name[v.video] for v in rows if v.video in by_name]
        videos[split] = keep_usual_crops(kept, problems)
    path = _first_existing(folder, public.truth)
    truth = public.read_truth(path, [row.video for row in lists["test"]])
    videos["test"], said = add_ground_truth(
        videos["test"], lists["test"], truth, card, problems, slack=slack, strict=False
    )
    card = dataclasses.replace(card, clip=CLIP if sized[0].width == 512 else "")
    remarks = axes.remarks([(v.layout, v.num_crops) for v in sized]) + remarks
    protocol = FeatureProtocol(card.clip or "unknown", card.stride, sized[0].num_crops)
    splits = {s: Records(v, card.stride, problems) for s, v in videos.items()}
    return SourceDataset(
        name, card, protocol, splits, remarks + over + said, public.about
    )


def read_lists(
    name: str, folder: pathlib.Path, problems: ErrorCollector
) -> dict[str, list[ListEntry]]:
    """Reads the lists of a public dataset and holds them to its counts.

    Raises:
      InputError: no list, or a line whose label cannot be read.
    """
    public, lists = PUBLIC_DATASETS[name], {}
    for split, names in public.lists.items():
        path = _first_existing(folder, names)
        rows = _read_list(path, name)
        if len(rows) != public.counts[split]:
            problems(
                InputError(
                    f"{path}: {len(rows)} {split} videos; {name} has "
                    f"{public.counts[split]}; get the whole list"
                )
            )
        lists[split] = rows
    return drop_duplicates(lists, problems)


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
        if path.suffix != ".csv":  # CLASS/NAME.mp4, or NAME alone
            words = [words[0], words[0].strip().rpartition("/")[0]]
        if len(words) != 2:
            raise InputError(f"{where}: expected video,label, found {','.join(words)}")
        video = re.sub(r"__\d+$", "", video_name(words[0].strip()))
        labels = class_names_of_label(name, video, words[1].strip(), where)
        # The release lists every crop of a video on a line of its own.
        row = rows.setdefault(video, ListEntry(where, video, labels))
        if row.labels != labels or (row.where != where and words[0] == video):
            raise InputError(f"{where}: video {video} is already in {row.where}")
    return list(rows.values())


def class_names_of_label(
    name: str, video: str, label: str, where: str
) -> tuple[str, ...]:
    """Returns the class names in a public list's label.

    XD-Violence: `B2-G-0` is classes B2 and G, `A` is normal, and the video's name ends
    with the same label. UCF-Crime's normal videos lie in folders of other names. Of
    ShanghaiTech's videos, those filmed for its first test set have four-digit numbers
    and an anomaly each; its text lists rely on that.

    Raises:
      InputError: a label that cannot be read, or that the name contradicts.
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
        normal = label.endswith("Normal_Videos_Anomaly")
        classes = ("Normal" if normal else label,)
    if not classes or not set(classes) <= set(known):
        raise InputError(
            f"{where}: video {video} has the label {label!r}; expected "
            f"{', '.join(known)}" + (", joined by '-'" if name == "xd" else "")
        )
    return classes


def feature_files(
    root: pathlib.Path, passed: SkippedFiles | None = None
) -> FilesByCrop:
    """Maps videos to their feature files, by crop, anywhere under `root`."""
    found = FilesByCrop()
    for path in find_npy_files(root, passed):
        base, crop = normalize_name(path.name.removesuffix(".npy")), None
        if match := re.fullmatch(r"(.*)__(\d+)", base):
            base, crop = match[1], int(match[2])
        base = re.sub(r"_(i3d|c3d|clip)$", "", video_name(base))
        if found.setdefault(base, {}).setdefault(crop, path) != path:
            found.twins[base] = found[base][crop], path
    return found


def _find_features(
    root: pathlib.Path,
    lists: Mapping[str, Sequence[ListEntry]],
    problems: ErrorCollector,
) -> tuple[FilesByCrop, list[str]]:
    """Returns the feature files, and remarks about what else is under `root`."""
    passed = SkippedFiles()
    found = feature_files(root, passed)
    return found, report_skipped_files(passed, lists, found, problems)


def most_common_crops(
    rows: Sequence[ListEntry], found: CropFiles
) -> tuple[int | None, ...]:
    """Returns the crops that most videos of a list have; (None,) is one file for all.

    Raises:
      InputError: no video has features, or crops are missing throughout.
    """
    counts = Counter(frozenset(found.get(row.video, ())) for row in rows)
    counts.pop(frozenset(), None)
    for both in [c for c in counts if None in c and len(c) > 1]:
        counts[both - {None}] += counts.pop(both)  # `_videos` names the files
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
    problems: ErrorCollector,
) -> list[FeatureFiles]:
    videos = []
    for row in rows:
        files = found.get(row.video, {})
        if row.video in found.twins:
            one, other = found.twins[row.video]
            problems(
                InputError(
                    f"{one} and {other} are both features of video {row.video}, maybe "
                    "of two kinds (RGB and flow); point --features at the folder of "
                    "one kind, or keep one of the two"
                )
            )
            continue
        if None in files and len(files) > 1:
            crop = next(path for c, path in files.items() if c is not None)
            problems(
                InputError(
                    f"{files[None]} and {crop} are both features of video {row.video}, "
                    "one of all crops and one of a single crop; keep one of the two"
                )
            )
            continue
        missing = [c for c in crops if c not in files]
        if missing:
            suffix = "" if missing[0] is None else f"__{missing[0]}"
            problems(
                InputError(
                    f"{root}: the feature file {row.video}{suffix}.npy is missing; get "
                    "it, or leave its video out with --skip-bad"
                )
            )
            continue
        paths = tuple(files[c] for c in crops)
        layout = OWN if len(paths) == 1 else "TD"
        videos.append(FeatureFiles(row.video, class_indices(row, card), paths, layout))
    return videos


def _adjust_test_crop(
    card: Card, crops: Sequence[int | None]
) -> tuple[Card, list[str]]:
    """Points the card's test crop at where the dataset will hold it."""
    if len(crops) != 1 or not card.test_crop:
        return card, []
    told = "are one file a video" if crops[0] is None else f"have crop {crops[0]} only"
    remark = f"the test features {told}: the card tests crop 0, not {card.test_crop}"
    return dataclasses.replace(card, test_crop=0), [remark]


def _first_existing(folder: pathlib.Path, names: Sequence[str]) -> pathlib.Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise InputError(f"{folder}: expected one of {', '.join(names)}, found none")


def _read_shanghaitech(
    path: pathlib.Path, videos: Sequence[str]
) -> dict[str, GroundTruth]:
    if path.is_dir():
        return ground_truth.read_masks(path, videos)
    return ground_truth.read_json(path)


LICENCE_NOTE = (
    "The features' authors state no licence; {} Both are linked here, never passed on."
)
PUBLIC_DATASETS = {
    "ucf": PublicDataset(
        cards.UCF,
        {"train": 1610, "test": 290},
        {
            "train": ("ucf_train.csv", "ucf_CLIP_rgb.csv", "Anomaly_Train.txt"),
            "test": ("ucf_test.csv", "ucf_CLIP_rgbtest.csv", "Anomaly_Test.txt"),
        },
        (
            "ucf_temporal_annotation.txt",
            "Temporal_Anomaly_Annotation_for_Testing_Videos.txt",
            "Temporal_Anomaly_Annotation.txt",
        ),
        lambda path, videos: ground_truth.read_ucf(path),
        DatasetInfo(
            "UCF-Crime: 1900 untrimmed surveillance videos, 13 kinds of anomaly; "
            "video labels for training, frame truth for the 290 test videos.",
            "https://www.crcv.ucf.edu/projects/real-world/",
            "@inproceedings{sultani2018real, title={Real-world Anomaly Detection in "
            "Surveillance Videos}, author={Sultani, Waqas and Chen, Chen and Shah, "
            "Mubarak}, booktitle={CVPR}, year={2018}}",
            LICENCE_NOTE.format("the videos are for research."),
        ),
    ),
    "xd": PublicDataset(
        cards.XD,
        {"train": 3954, "test": 800},
        {
            "train": ("xd_train.csv", "xd_CLIP_rgb.csv"),
            "test": ("xd_test.csv", "xd_CLIP_rgbtest.csv"),
        },
        (
            "xd_annotation_multiclass.txt",
            "annotations_multiclasses.txt",
            "xd_annotation.txt",
            "annotations.txt",
        ),
        lambda path, videos: ground_truth.read_xd(path),
        DatasetInfo(
            "XD-Violence: 4754 untrimmed videos from films and the web, 6 kinds of "
            "violence, several a video; frame truth for the 800 test videos.",
            "https://roc-ng.github.io/XD-Violence/",
            "@inproceedings{wu2020not, title={Not only Look, but also Listen: Learning "
            "Multimodal Violence Detection under Weak Supervision}, author={Wu, Peng "
            "and Liu, Jing and Shi, Yujia and Sun, Yujia and Shao, Fangtao and Wu, "
            "Zhaoyang and Yang, Zhiwei}, booktitle={ECCV}, year={2020}}",
            LICENCE_NOTE.format("the videos' terms are on the homepage."),
        ),
    ),
    "shanghaitech": PublicDataset(
        cards.SHANGHAITECH,
        {"train": 238, "test": 199},
        {
            "train": ("shanghaitech_train.csv", "SH_Train.txt"),
            "test": ("shanghaitech_test.csv", "SH_Test.txt"),
        },
        ("shanghaitech_test_segments.json", "test_frame_mask"),
        _read_shanghaitech,
        DatasetInfo(
            "ShanghaiTech Campus in the weakly supervised split of Zhong et al. "
            "(CVPR 2019): 437 videos of 13 cameras, normal or not.",
            "https://svip-lab.github.io/dataset/campus_dataset.html",
            "@inproceedings{liu2018future, title={Future Frame Prediction for Anomaly "
            "Detection - A New Baseline}, author={Liu, Wen and Luo, Weixin and Lian, "
            "Dongze and Gao, Shenghua}, booktitle={CVPR}, year={2018}}",
            LICENCE_NOTE.format("the videos' terms are on the homepage."),
        ),
    ),
}
