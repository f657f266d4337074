"""True events of the test videos of a folder, in test_segments.json."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from wsvad_jax.data.cards import Card
from wsvad_jax.data.feature_files import ErrorCollector, FeatureFiles
from wsvad_jax.data.video_names import Hints, normalize_label
from wsvad_jax.datasets import ground_truth, time_units
from wsvad_jax.datasets.missing_files import VIDEOS
from wsvad_jax.datasets.split_lists import Row, entry_id
from wsvad_jax.datasets.time_units import Clock
from wsvad_jax.utils.errors import InputError


def read_truth(path: pathlib.Path) -> dict[str, ground_truth.Truth]:
    """Reads a folder's truth file by the videos' names, extensions dropped.

    Raises:
      InputError: as `annotations.read_json`.
    """
    truth: dict[str, ground_truth.Truth] = {}
    written: dict[str, str] = {}
    for name, item in ground_truth.read_json(path).items():
        video = entry_id(name)
        if (other := written.setdefault(video, name)) != name:
            raise InputError(
                f"{path}: {other} and {name} are both video {video}; keep one"
            )
        truth[video] = item
    return truth


def with_truth(
    videos: Sequence[FeatureFiles],
    rows: Sequence[Row],
    truth: Mapping[str, ground_truth.Truth],
    card: Card,
    problems: ErrorCollector,
    *,
    slack: int = 0,
    strict: bool = True,
    clocks: Mapping[str, Clock] | None = None,
) -> tuple[list[FeatureFiles], list[str]]:
    """Gives test videos their events and returns remarks; see `annotations.settle`.

    Truth of a video that `rows`, the test list, lacks is a problem. Times of videos
    come from `clocks` or from the features' sidecars.

    Raises:
      InputError: times that may be frames or seconds, see `data.truth_units`.
    """
    _check_listed(rows, truth, problems)
    known = time_units.clocks_of(videos, truth, card.stride, clocks or {})
    settled, remarks = [], time_units.remarks(truth.values())
    for video in videos:
        item = truth.get(video.video)
        try:
            if item is not None and item.label is not None:
                _same_label(item, video, card)
            if item is not None:
                times = video.video, known.get(video.video), card.stride
                item = time_units.in_frames(item, *times)
            segments, remark = ground_truth.settle(
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
            problems(e)
            continue
        settled.append(dataclasses.replace(video, segments=segments))
        remarks += remark
    return settled, remarks


def _check_listed(
    rows: Sequence[Row],
    truth: Mapping[str, ground_truth.Truth],
    problems: ErrorCollector,
) -> None:
    listed = {row.video for row in rows}
    hints = Hints(listed, (VIDEOS,))
    for name, item in truth.items():
        if name not in listed:
            text = f"{item.source}: video {name} is not in the test list; correct its "
            problems(hints.add(InputError(f"{text}name or add it to the list"), name))


def _same_label(truth: ground_truth.Truth, video: FeatureFiles, card: Card) -> None:
    names = {card.class_names[c] for c in video.label}
    if names != {normalize_label(part) for part in (truth.label or "").split("+")}:
        raise InputError(
            f"{truth.source}: video {video.video} is labelled {truth.label}, but "
            f"{'+'.join(sorted(names))} in the test list; correct one of them"
        )
