"""Ground truth of a custom folder's test videos, from test_segments.json or .csv."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from wsvad_jax.data.cards import Card
from wsvad_jax.data.feature_files import ErrorCollector, FeatureFiles
from wsvad_jax.data.video_names import Hints, normalize_label
from wsvad_jax.datasets import ground_truth, time_units, truth_csv
from wsvad_jax.datasets.ground_truth import GroundTruth
from wsvad_jax.datasets.ground_truth_alignment import align_ground_truth
from wsvad_jax.datasets.missing_files import VIDEOS
from wsvad_jax.datasets.split_lists import ListEntry, entry_video_id
from wsvad_jax.datasets.time_units import SnippetTimes
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import count

FILES = ("test_segments.json", "test_segments.csv")


def find_ground_truth(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the ground-truth file of a custom folder, None without one.

    Raises:
      InputError: there are two.
    """
    paths = [folder / name for name in FILES if (folder / name).exists()]
    if len(paths) > 1:
        raise InputError(f"{paths[0]}: there is {FILES[1]} as well; keep one of them")
    return paths[0] if paths else None


def read_ground_truth(path: pathlib.Path) -> dict[str, GroundTruth]:
    """Reads a ground-truth file; returns it by video name without extension.

    Raises:
      InputError: as `ground_truth.read_json`, or two names of one video.
    """
    truth: dict[str, GroundTruth] = {}
    written: dict[str, str] = {}
    read = (
        truth_csv.read_csv if path.suffix.lower() == ".csv" else ground_truth.read_json
    )
    for name, item in read(path).items():
        video = entry_video_id(name)
        if (other := written.setdefault(video, name)) != name:
            raise InputError(
                f"{path}: {other} and {name} are both video {video}; keep one"
            )
        truth[video] = item
    return truth


def add_ground_truth(
    videos: Sequence[FeatureFiles],
    rows: Sequence[ListEntry],
    truth: Mapping[str, GroundTruth],
    card: Card,
    collector: ErrorCollector,
    *,
    slack: int = 0,
    strict: bool = True,
    times: Mapping[str, SnippetTimes] | None = None,
) -> tuple[list[FeatureFiles], list[str]]:
    """Returns the test videos with their events, and remarks.

    Args:
      videos: test videos with known lengths.
      rows: entries of the test list; ground truth of other videos is an error.
      truth: ground truth by video.
      card: card with the classes.
      collector: collector of errors about single videos.
      slack: see `align_ground_truth`.
      strict: see `align_ground_truth`.
      times: snippet times by video; None reads them from the features' sidecars.

    Raises:
      InputError: times that may be frames or seconds, see `datasets.time_units`.
    """
    _check_listed(rows, truth, collector)
    known = time_units.checked_snippet_times(videos, truth, card.stride, times or {})

    # An error about one video leaves the others usable.
    aligned, remarks = [], time_units.remarks(truth.values())
    for video in videos:
        item = truth.get(video.video)
        try:
            # Labels and units first, since alignment takes them as given.
            if item is not None and item.label is not None:
                _check_label(item, video, card)
            if item is not None:
                snippet_times = known.get(video.video)
                item = time_units.in_frames(
                    item, video.video, snippet_times, card.stride
                )
            segments, new_remarks = align_ground_truth(
                item,
                video.video,
                video.label,
                video.num_snippets,
                card,
                num_frames=video.num_frames,
                slack=slack,
                strict=strict,
            )
        except InputError as e:
            collector(e)
            continue

        aligned.append(dataclasses.replace(video, segments=segments))
        remarks += new_remarks
    return aligned, remarks


def of_test_videos(
    truth: Mapping[str, GroundTruth], lists: Mapping[str, Sequence[ListEntry]]
) -> tuple[dict[str, GroundTruth], list[str]]:
    """Returns the ground truth without that of training videos, and a remark about it.

    A random split may put a video with known events into training, where labels suffice.
    """
    train = {row.video for row in lists["train"]}
    kept = {name: item for name, item in truth.items() if name not in train}
    unused = len(truth) - len(kept)
    videos = count(unused, "training video")
    remark = f"true times of {videos} are not used: training reads labels alone"
    return kept, [remark] if unused else []


def _check_listed(
    rows: Sequence[ListEntry],
    truth: Mapping[str, GroundTruth],
    collector: ErrorCollector,
) -> None:
    listed = {row.video for row in rows}
    hints = Hints(listed, (VIDEOS,))
    for name, item in truth.items():
        if name not in listed:
            error = InputError(
                f"{item.source}: video {name} is not in the test list; correct its name "
                "or add it to the list"
            )
            collector(hints.add(error, name))


def _check_label(truth: GroundTruth, video: FeatureFiles, card: Card) -> None:
    names = {card.class_names[c] for c in video.label}
    if names != {normalize_label(part) for part in (truth.label or "").split("+")}:
        raise InputError(
            f"{truth.source}: video {video.video} is labelled {truth.label}, but "
            f"{'+'.join(sorted(names))} in the test list; correct one of them"
        )
