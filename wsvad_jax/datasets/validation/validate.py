"""Validates a custom folder before it is prepared; writes nothing.

A problem stops `prepare`, or would make the test metrics wrong. A remark names what may
harm training. Both say what to do.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

from wsvad_jax.data import feature_files, feature_protocols
from wsvad_jax.data.crops import FeatureIndex, crop_files, video_of
from wsvad_jax.data.feature_files import ErrorCollector, FeatureFiles
from wsvad_jax.data.records import FRAMES_PER_SNIPPET
from wsvad_jax.datasets import custom, custom_videos, own_lists
from wsvad_jax.datasets.custom_ground_truth import FILES as TRUTH_FILES
from wsvad_jax.datasets.custom_sidecars import add_sidecars, mixed_precision
from wsvad_jax.datasets.custom_videos import FeatureStatus
from wsvad_jax.datasets.list_options import ListOptions
from wsvad_jax.datasets.missing_files import misplaced_videos
from wsvad_jax.datasets.split_lists import (
    SPLITS,
    ListEntry,
    OwnLists,
    class_indices,
    drop_duplicates,
    read_list,
)
from wsvad_jax.datasets.validation import rules
from wsvad_jax.datasets.validation.duplicates import report_duplicates
from wsvad_jax.datasets.validation.report import ListedVideo, ValidationReport
from wsvad_jax.datasets.validation.stated_length import stated_length
from wsvad_jax.datasets.validation.truth import check_ground_truth
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.file_search import SkippedFiles
from wsvad_jax.utils.progress import Progress
from wsvad_jax.utils.text import count, first_names


def validate(
    folder: str | os.PathLike,
    features_folder: str | os.PathLike | None = None,
    *,
    slack: int = 0,
    lists: ListOptions | None = None,
) -> ValidationReport:
    """Validates the lists, files, features and ground truth of a custom folder.

    Args:
      folder: custom folder, as described in `datasets.custom`.
      features_folder: folder of the features; None is FOLDER/features.
      slack: allowed difference in snippets between features and ground truth.
      lists: columns of the lists, and how a split would be made.
    """
    folder = pathlib.Path(folder).expanduser().absolute()
    root = pathlib.Path(features_folder or folder / "features").expanduser().absolute()
    report = ValidationReport(folder, root)

    # Lists and labels come first: they say which files should be there.
    own = _check_lists(report, lists or ListOptions())
    _check_labels(report, own.lists)
    listed = [video.row.video for video in report.videos]
    status = custom_videos.feature_status(folder, root, listed)
    _check_files(report, status)

    # Lengths come from features, or from the videos that have none yet.
    videos = _check_features(report, status)
    videos += _open_videos(report, status)
    check_ground_truth(report, own, videos, slack)

    report_duplicates(report, _files_of_videos(report, status))
    rules.add_remarks(report)
    return report


def _check_lists(report: ValidationReport, options: ListOptions) -> OwnLists:
    own = OwnLists({split: [] for split in SPLITS})
    known = set()
    try:
        own = own_lists.resolve(report.folder, report.root, options)
    except InputError as e:
        report.add_problem("lists", e)
        known = {str(e)}
        for split in SPLITS:
            own.lists[split] = _usable_list(report, split, options, known)
    for remark in own.remarks:
        report.add_remark("lists", remark)

    collector = ErrorCollector(skip=True)
    lists = drop_duplicates(own.lists, collector)
    collector.errors[:] = [e for e in collector.errors if str(e) not in known]
    report.add_errors("lists", collector)
    return dataclasses.replace(own, lists=lists)


def _usable_list(
    report: ValidationReport, split: str, options: ListOptions, known: set[str]
) -> list[ListEntry]:
    """Reads a list although the other is not usable; adds errors that aren't known."""
    path, columns = report.folder / f"{split}.csv", (None, None)
    if not path.exists():
        return []
    try:
        options.check()
        columns = options.video_column, options.label_column
    except InputError:
        return []
    try:
        return read_list(path, columns)
    except InputError as e:
        if str(e) not in known:
            report.add_problem("lists", e)
            known.add(str(e))
        return []


def _check_labels(
    report: ValidationReport, lists: Mapping[str, Sequence[ListEntry]]
) -> None:
    """Reads the card, or makes one of the labels, and looks up each label in it."""
    try:
        protocol, clip = custom.read_protocol(report.root / "protocol.json")
        report.card = custom.load_card(
            report.folder, report.root, lists["train"], protocol, clip
        )
        path = report.folder / "card.json"
        report.classes_on_card = path.exists() and "classes" in files.read_json(path)
    except InputError as e:
        # An empty training list gives no card, and has been reported already.
        if lists["train"]:
            report.add_problem("labels", e)

    for split, rows in lists.items():
        for row in rows:
            label: tuple[int, ...] = ()
            try:
                label = class_indices(row, report.card) if report.card else ()
            except InputError as e:
                report.add_problem("labels", e)
            report.videos.append(ListedVideo(split, row, label))


def _check_files(report: ValidationReport, status: FeatureStatus) -> None:
    """Reports listed videos without files, and files that cannot be used."""
    rows = {video.row.video: video.row for video in report.videos}
    nothing = not (status.video_paths or status.sidecars or status.without_sidecar)

    # If no file is there at all, one message with the likely folder is enough.
    if (
        status.not_found
        and nothing
        and (message := misplaced_videos(report.folder, report.root))
    ):
        report.add_problem("files", message)
    else:
        for name in status.not_found:
            error = custom_videos.missing_video_error(
                report.folder, report.root, rows[name], status.hints
            )
            report.add_problem("files", error)

    for error in status.errors.values():
        report.add_problem("files", error)

    # New features must be made in the same way as the others, which is unknown here.
    to_extract = status.to_extract
    if status.without_sidecar and to_extract:
        report.add_problem(
            "files",
            f"{count(len(to_extract), 'video')} to be extracted "
            f"({first_names(to_extract)}), but other features have no sidecar that says "
            "how they were made; add the missing features, or move the features' folder "
            "away to extract all videos",
        )
    elif problem := status.protocol_problem(report.root):
        report.add_problem("features", problem)

    if to_extract and (mixed := mixed_precision(status.dtypes)):
        report.add_problem(
            "features",
            f"{mixed}, so {count(len(to_extract), 'video')} can't be extracted like "
            f"the others ({first_names(to_extract)}); move {report.root} away to "
            "extract all videos again in one precision",
        )
    report.num_to_extract = len(to_extract)
    _report_unlisted(report, status, rows)

    if status.changed:
        report.add_remark(
            "files",
            f"{count(len(status.changed), 'video')} changed since the features were "
            f"made, to be extracted again: {first_names(status.changed)}",
        )


def _report_unlisted(
    report: ValidationReport, status: FeatureStatus, rows: Mapping[str, ListEntry]
) -> None:
    """Reports files that are in no list, and files that are not read."""
    skipped = SkippedFiles()
    features = _index(report, skipped)
    videos = custom_videos.video_files(report.folder / custom.VIDEOS, skipped)

    # An unreadable folder may hold the videos that are missing.
    for error in skipped.errors:
        if status.not_found:
            report.add_problem("files", error)
        else:
            report.add_remark("files", error)
    if skipped.unread:
        report.add_remark("files", skipped)

    # A file may have several names, and one of them in a list is enough.
    names: dict[str, set[str]] = {}
    for name, path in [(n, p) for n, paths in videos.items() for p in paths]:
        names.setdefault(os.path.realpath(path), set()).add(name)
    for name, path in features.items():
        video = video_of(name, path, features)
        names.setdefault(os.path.realpath(path), set()).add(video)

    # The shortest name stands for a file that no list names.
    listed = {name for same in names.values() if same & rows.keys() for name in same}
    shortest = {min(same, key=lambda n: (len(n), n)) for same in names.values()}
    unlisted = shortest - listed - rows.keys()
    if unlisted and rows:
        report.add_remark(
            "files",
            f"{count(len(unlisted), 'video')} in no list, so not used: "
            f"{first_names(sorted(unlisted))}",
        )


def _index(
    report: ValidationReport, skipped: SkippedFiles | None = None
) -> FeatureIndex:
    listed = {video.row.video for video in report.videos}
    return custom.index_feature_files(report.root, listed, skipped)


def _check_features(
    report: ValidationReport, status: FeatureStatus
) -> list[FeatureFiles]:
    """Reads all features; returns the usable ones, with their lengths."""
    collector = ErrorCollector(skip=True)
    videos = _headers(report, status, collector)
    listed = {video.row.video: video for video in report.videos}

    # The number of crops must be the same within each split.
    for split in SPLITS:
        part = [v for v in videos if listed[v.video].split == split]
        kept = {v.video for v in feature_files.keep_most_common_crops(part, collector)}
        if split == "test" and report.card and part:
            try:
                custom.check_test_crop(report.folder, report.card, part)
            except InputError as e:
                collector(e)
        videos = [v for v in videos if v not in part or v.video in kept]

    for remark in _read_values(videos, collector):
        report.add_remark("features", remark)
    report.add_errors("features", collector)

    # Lengths for the report's table and rules.
    stride = report.card.stride if report.card else FRAMES_PER_SNIPPET
    for video in videos:
        side, entry = status.sidecars.get(video.video), listed[video.video]
        entry.frames = video.num_frames or video.num_snippets * stride
        entry.seconds = side.duration if side else 0.0
        entry.crops, report.width = video.num_crops, video.width
    return videos


def _headers(
    report: ValidationReport, status: FeatureStatus, collector: ErrorCollector
) -> list[FeatureFiles]:
    """Reads the headers and sidecars of the features that will be used."""
    index, videos = _index(report), []
    unusable = {*status.missing, *status.changed, *status.not_found, *status.errors}
    for entry in report.videos:
        if entry.row.video not in unusable:
            paths = crop_files(entry.row.video, index, report.root)
            video = FeatureFiles(
                entry.row.video, entry.label, paths, feature_files.UNKNOWN_LAYOUT
            )
            videos.append(video)

    try:
        videos = feature_files.check_headers(videos, collector)
    except InputError as e:  # about the files as a whole
        collector(e)
        videos = []

    # Sidecars are compared with the card's stride.
    if report.card:
        path = report.root / "protocol.json"
        protocol, _ = custom.read_protocol(path)
        videos = custom.drop_other_crop_counts(path, videos, collector)
        videos, remarks, protocol = add_sidecars(
            videos, report.card, collector, protocol
        )
        note = feature_protocols.clip_note(protocol)
        for remark in [*remarks, *([note] if note else [])]:
            report.add_remark("features", remark)
    return videos


def _read_values(
    videos: Sequence[FeatureFiles], collector: ErrorCollector
) -> list[str]:
    remarks: list[str] = []
    with Progress("reading features", len(videos), unit="video") as progress:
        for video in videos:
            for path in video.paths:
                try:
                    feature_files.read_features(path, remarks)
                except InputError as e:
                    collector(e)
            progress.update()
    return remarks


def _open_videos(report: ValidationReport, status: FeatureStatus) -> list[FeatureFiles]:
    """Opens the videos without features; returns them with their stated lengths.

    A video whose stated length is an estimate gets 0 snippets: no event can be said to
    end after it.
    """
    stride = report.card.stride if report.card else FRAMES_PER_SNIPPET
    wanted = set(status.to_extract)
    entries = [entry for entry in report.videos if entry.row.video in wanted]
    videos, estimated = [], []
    with Progress("opening videos", len(entries), unit="video") as progress:
        for entry in entries:
            try:
                path = status.video_paths[entry.row.video]
                entry.frames, entry.seconds, exact = stated_length(path)
            except InputError as e:
                report.add_problem("videos", e)
                continue
            finally:
                progress.update()

            if not exact and entry.split == "test":
                estimated.append(entry.row.video)
            T = -(-entry.frames // stride) if exact else 0
            videos.append(
                FeatureFiles(entry.row.video, entry.label, (), num_snippets=T)
            )

    if estimated and any((report.folder / name).exists() for name in TRUTH_FILES):
        report.add_remark(
            "truth",
            f"{count(len(estimated), 'test video')} whose containers state no exact "
            "number of frames, so the times of events are not checked before "
            f"extraction: {first_names(estimated)}",
        )
    return videos


def _files_of_videos(
    report: ValidationReport, status: FeatureStatus
) -> dict[str, tuple[pathlib.Path, ...]]:
    """Returns the video file of each listed video, or else its feature files."""
    index = _index(report)
    paths: dict[str, tuple[pathlib.Path, ...]] = {}
    for entry in report.videos:
        name = entry.row.video
        if name in status.video_paths:
            paths[name] = (status.video_paths[name],)
        elif name in status.without_sidecar or name in status.sidecars:
            paths[name] = crop_files(name, index, report.root)
    return paths
