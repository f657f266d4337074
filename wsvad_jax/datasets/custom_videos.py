"""Videos of a custom folder: which of them need features, and their extraction.

FOLDER/videos/VIDEO.mp4 (or another container, in subfolders too) becomes
FOLDER/features/VIDEO.npy with a sidecar. Features whose sidecar matches the video stay.
New and changed videos are extracted with the options of the others.
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wsvad_jax.data import feature_protocols, sidecar
from wsvad_jax.data.cards import Card
from wsvad_jax.data.crops import MissingFeatures, crop_files, other_format
from wsvad_jax.data.feature_files import ErrorCollector, read_shape
from wsvad_jax.data.records import FRAMES_PER_SNIPPET
from wsvad_jax.data.video_names import EXTENSIONS, Hints, index_by_name
from wsvad_jax.datasets import custom
from wsvad_jax.datasets.custom_ground_truth import find_ground_truth, read_ground_truth
from wsvad_jax.datasets.custom_sidecars import (
    EXTRACTION_KEY,
    describe_protocol,
    unlike_extraction,
)
from wsvad_jax.datasets.missing_files import misplaced_videos
from wsvad_jax.datasets.split_lists import (
    ListEntry,
    class_indices,
    drop_duplicates,
    read_lists,
)
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError, UnreadableError
from wsvad_jax.utils.file_search import SkippedFiles, find_files
from wsvad_jax.utils.text import count, first_names


@dataclasses.dataclass(frozen=True)
class ExtractionOptions:
    """Extraction options; None inherits from existing features, else the default."""

    clip: str | None = None  # hub name or snapshot folder
    crops: int | None = None
    frame: str | None = None
    resize: str | None = None
    dtype: str | None = None

    @property
    def is_set(self) -> bool:
        """Whether the user set any of them."""
        return any(v is not None for v in dataclasses.astuple(self))


@dataclasses.dataclass
class FeatureStatus:
    """Which of the listed videos have features, and which need an extraction."""

    video_paths: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    missing: list[str] = dataclasses.field(default_factory=list)  # video, no features
    changed: list[str] = dataclasses.field(default_factory=list)  # video has changed
    not_found: list[str] = dataclasses.field(default_factory=list)  # neither of them
    sidecars: dict[str, sidecar.Sidecar] = dataclasses.field(default_factory=dict)
    protocol: dict | None = None  # content of protocol.json, if there is one
    without_sidecar: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    # Videos with two files of one name, or unreadable ones.
    errors: dict[str, InputError] = dataclasses.field(default_factory=dict)
    hints: Hints = dataclasses.field(default_factory=lambda: Hints(()))
    skipped: SkippedFiles = dataclasses.field(default_factory=SkippedFiles)

    @property
    def dtypes(self) -> set[str]:
        """Precisions of the extracted features; extraction adds to a single one."""
        dtypes = {side.dtype for side in self.sidecars.values()}
        if self.is_claimed:
            dtypes.add(str((self.protocol or {}).get("dtype", sidecar.Sidecar.dtype)))
        return dtypes - {""}

    @property
    def is_claimed(self) -> bool:
        """Whether extraction wrote protocol.json, and so claimed the folder."""
        return EXTRACTION_KEY in (self.protocol or {})

    @property
    def to_extract(self) -> list[str]:
        """Videos that need an extraction."""
        return [*self.missing, *self.changed]

    def protocol_problem(self, root: pathlib.Path) -> str:
        """What keeps extraction out of a folder whose protocol.json it didn't write."""
        made = {side.weights_hash for side in self.sidecars.values()}
        reason = unlike_extraction(self.protocol, made)
        if not (self.to_extract and reason):
            return ""
        return (
            f"{root / 'protocol.json'}: {reason}, and {count(len(self.to_extract), 'video')}"
            f" can't be extracted like them ({first_names(self.to_extract)}); add the "
            "missing ones, or move the file and the features away to extract all videos"
        )


def video_files(
    root: pathlib.Path, skipped: SkippedFiles | None = None
) -> dict[str, list[pathlib.Path]]:
    """Maps names below a folder, without extension, to video files."""
    paths = find_files(root, EXTENSIONS, skipped, every_name=True)
    return index_by_name((path.relative_to(root).as_posix(), path) for path in paths)


def feature_status(
    folder: pathlib.Path, root: pathlib.Path, videos: Iterable[str]
) -> FeatureStatus:
    """Compares the videos and the features of a custom folder.

    Args:
      folder: custom folder with videos/.
      root: folder of the features, which need not exist.
      videos: names in the lists.
    """
    status, names = FeatureStatus(), dict.fromkeys(videos)
    by_name = video_files(folder / custom.VIDEOS, status.skipped)
    features = custom.index_feature_files(root, names, SkippedFiles())
    folders = (custom.VIDEOS, root.name, folder.name)
    status.hints = Hints([*by_name, *features], folders)

    status.protocol = _read_object(root / "protocol.json")
    for video in names:
        paths = by_name.get(video, [])
        if len(paths) > 1:
            other = os.path.relpath(paths[1], paths[0].parent)
            status.errors[video] = InputError(
                f"{paths[0]}: there is {other} as well; keep one file of video {video}"
            )
            continue
        if paths:
            status.video_paths[video] = paths[0]

        try:
            npy = crop_files(video, features, root)
        except MissingFeatures:
            (status.missing if paths else status.not_found).append(video)
            continue
        except InputError as e:
            status.errors[video] = e
            continue

        # In a claimed folder, a file without sidecar was left by a killed process, so it
        # is not somebody else's.
        if status.is_claimed or os.path.isfile(sidecar.sidecar_path(npy[0])):
            _add_extracted(status, video, npy)
        else:
            status.without_sidecar[video] = npy[0]
    return status


def _read_object(path: pathlib.Path) -> dict | None:
    value = files.read_json(path) if path.exists() else None
    return value if value is None or isinstance(value, dict) else {}


def _add_extracted(
    status: FeatureStatus, video: str, npy: Sequence[pathlib.Path]
) -> None:
    """Adds a video whose features were extracted, perhaps of another version of it."""
    try:
        side = sidecar.read(sidecar.sidecar_path(npy[0]))
        for path in npy:
            read_shape(path)
    except UnreadableError:
        raise
    except InputError:
        # An interrupted extraction left only one of the two files, or a damaged one.
        if video in status.video_paths:
            status.changed.append(video)
        return

    status.sidecars[video] = side
    if (path := status.video_paths.get(video)) is None:
        return
    try:
        if side.source != sidecar.fingerprint(path):
            status.changed.append(video)
    except OSError as e:
        status.errors[video] = InputError(f"{path}: can't be read ({e.strerror})")


def extract_missing(
    folder: pathlib.Path,
    root: pathlib.Path,
    options: ExtractionOptions,
    collector: ErrorCollector,
    lists: Mapping[str, Sequence[ListEntry]] | None = None,
) -> set[str]:
    """Extracts the features of new and changed videos.

    Returns the names of videos that can't be used; `collector` has their errors.

    Args:
      folder: custom folder with its lists.
      root: folder of the features.
      options: options that the user set.
      collector: collector of errors about single videos.
      lists: entries by split; None reads train.csv and test.csv.

    Raises:
      InputError: there are no videos, no CLIP model is named, or existing features
        were made with other options and can't be extracted again.
    """
    videos = folder / custom.VIDEOS
    if not videos.is_dir():
        if options.is_set:
            reason = misplaced_videos(folder, root) or f"{videos}: no such folder"
            raise InputError(
                f"{reason}; --clip, --crops, --frame, --resize and --dtype extract "
                "features from the videos there"
            )
        return set()

    lists = read_lists(folder) if lists is None else lists
    rows = {r.video: r for part in lists.values() for r in part}
    status = feature_status(folder, root, rows)
    report_skipped(status, collector)
    for video in status.not_found:
        collector(missing_video_error(folder, root, rows[video], status.hints))
    for error in status.errors.values():
        collector(error)

    if status.video_paths and (options.is_set or status.missing or status.changed):
        card = _validate_lists(folder, root, lists, collector.skip)
        _extract(folder, root, status, card, options, collector)
        status = feature_status(folder, root, rows)
    elif options.is_set:
        raise InputError(
            f"{videos}: none of the {len(rows)} videos in the lists is there"
        )
    return {*status.not_found, *status.errors, *status.missing, *status.changed}


def report_skipped(status: FeatureStatus, collector: ErrorCollector) -> None:
    """Prints which files were skipped; collects errors if listed videos are missing."""
    if str(status.skipped):
        print(status.skipped, file=sys.stderr)
    for error in status.skipped.errors:
        if status.not_found:
            collector(error)
        else:
            print(f"skipped: {error}", file=sys.stderr)


def missing_video_error(
    folder: pathlib.Path, root: pathlib.Path, row: ListEntry, hints: Hints
) -> InputError:
    """Returns the error about a video without files, with similar names if any."""
    videos = folder / custom.VIDEOS
    where = (
        f"neither in {videos} nor in {root}" if videos.is_dir() else f"not in {root}"
    )
    if other := other_format(root, row.video):
        return InputError(f"{row.where}: video {row.video} is {where}; {other}")

    question = hints(row.video)
    similar = f" ({question})" if question else ""
    return InputError(
        f"{row.where}: video {row.video} is {where}; correct its name{similar}, add it "
        "or remove it from the list"
    )


def _validate_lists(
    folder: pathlib.Path,
    root: pathlib.Path,
    raw_lists: Mapping[str, Sequence[ListEntry]],
    skip: bool,
) -> Card | None:
    """Raises now what would stop `prepare` after hours of extraction.

    Returns the folder's card, None without one.
    """
    collector, path = ErrorCollector(skip), folder / "card.json"
    lists = drop_duplicates(raw_lists, collector)
    protocol, clip = custom.read_protocol(root / "protocol.json")
    card = custom.load_card(folder, root, lists["train"], protocol, clip)

    for row in (row for rows in lists.values() for row in rows):
        try:
            class_indices(row, card)
        except InputError as e:
            collector(e)
    if truth := find_ground_truth(folder):
        read_ground_truth(truth)
    return card if path.exists() else None


def _extract(
    folder: pathlib.Path,
    root: pathlib.Path,
    status: FeatureStatus,
    card: Card | None,
    options: ExtractionOptions,
    collector: ErrorCollector,
) -> None:
    from wsvad_jax.extraction.extract_files import extract_files

    # Features of unknown origin can't be extended.
    needed = status.to_extract
    if status.without_sidecar:
        npy = next(iter(status.without_sidecar.values()))
        raise InputError(
            f"{npy}: these features have no sidecar, so it is unknown how they were made "
            f"and {needed[0] if needed else 'other videos'} can't be extracted in the "
            f"same way; move {root} away to extract all videos, or leave out --clip"
        )
    if problem := status.protocol_problem(root):
        raise InputError(problem)

    _, previous_clip = custom.read_protocol(root / "protocol.json")
    extractor, clip = _extractor(folder, status, card, options, previous_clip)
    _check_protocol(root, status, extractor)
    print(
        f"features of {len(status.video_paths)} videos with {extractor.encoder}: "
        f"{len(status.missing)} are missing, {len(status.changed)} are of other videos"
    )

    paths = list(status.video_paths.values())
    videos = folder / custom.VIDEOS
    summary = extract_files(paths, root, extractor, root=videos, clip=clip)

    # The same model may be in another folder now.
    made = files.read_json(root / "protocol.json")
    if made.get("clip") != clip:
        files.write_json(root / "protocol.json", {**made, "clip": clip})
    print(summary)
    for error in summary.failed:
        collector(error)


def _extractor(
    folder: pathlib.Path,
    status: FeatureStatus,
    card: Card | None,
    options: ExtractionOptions,
    previous_clip: str,
) -> tuple[Any, str]:
    """Returns the extractor, and the name by which training loads the CLIP model."""
    from wsvad_jax.clip import training_notes
    from wsvad_jax.clip.snapshot import load_snapshot
    from wsvad_jax.extraction.extractor import Extractor

    clip = options.clip or previous_clip or (card.clip if card else "")
    if not clip:
        raise InputError(
            f"{folder}: {len(status.missing)} of its videos have no features yet; pass "
            f"--clip NAME to extract them, with a model of the Hugging Face hub like "
            f"{custom.EXAMPLE_CLIP} or its folder"
        )
    if pathlib.Path(clip).expanduser().is_dir():
        clip = str(pathlib.Path(clip).expanduser().resolve())
    snapshot = load_snapshot(clip)
    for remark in snapshot.remarks:
        print(remark, file=sys.stderr)

    # Without --clip, the model must be the one that made the other features.
    made = next(iter(status.sidecars.values()), None)
    protocol = feature_protocols.snapshot_protocol(
        snapshot, made.resize if made else ""
    )
    differs = made and feature_protocols.encoder_difference(protocol, made.protocol)
    if differs and not options.clip:
        raise InputError(
            f"{clip}: not the weights that the features in the folder were made with, "
            f"or not used as then ({differs}); pass --clip to say which, or to extract "
            "all again"
        )

    stride = card.stride if card else made.stride if made else FRAMES_PER_SNIPPET
    extractor = Extractor(
        snapshot,
        crops=options.crops or (made.crops if made else 1),
        frame=options.frame or (made.frame if made else "middle"),
        resize=options.resize or (made.resize if made else "stretch"),
        stride=stride,
        dtype=options.dtype or (made.dtype if made else "float32"),
    )
    training_notes.show(feature_protocols.clip_note(extractor.protocol))
    return extractor, clip


def _check_protocol(root: pathlib.Path, status: FeatureStatus, extractor: Any) -> None:
    for made in status.sidecars.values():
        differs = feature_protocols.difference(extractor.protocol, made.protocol)
        if made.dtype != extractor.dtype and not differs:
            differs = f"dtype {extractor.dtype} instead of {made.dtype}"
        if differs:
            raise InputError(
                f"{root}: its features were made by {describe_protocol(made)}, "
                f"but {describe_protocol(extractor)} is requested ({differs}); "
                "move that folder away to extract all videos again"
            )
