"""Validates the ground truth of a custom folder's test videos."""

from collections.abc import Sequence

import numpy as np

from wsvad_jax.data.feature_files import ErrorCollector, FeatureFiles
from wsvad_jax.datasets.custom_ground_truth import (
    FILES,
    add_ground_truth,
    find_ground_truth,
    of_test_videos,
    read_ground_truth,
)
from wsvad_jax.datasets.split_lists import OwnLists
from wsvad_jax.datasets.time_units import SnippetTimes
from wsvad_jax.datasets.validation.report import ValidationReport
from wsvad_jax.utils.errors import InputError


def check_ground_truth(
    report: ValidationReport,
    own: OwnLists,
    videos: Sequence[FeatureFiles],
    slack: int,
) -> None:
    """Compares the events of the test videos with their labels and lengths."""
    try:
        path = find_ground_truth(report.folder)
    except InputError as e:
        report.add_problem("truth", e)
        return

    # Without truth a training is possible, so its absence is no problem.
    tested = [video for video in report.videos if video.split == "test"]
    if path is None:
        if any(any(video.label) for video in tested):
            report.add_remark(
                "truth",
                f"there is no {FILES[0]}: without the times of the test "
                "videos' events, results have video_auc but no frame-level auc or ap",
            )
        return

    if not report.card:
        return

    # Videos of unknown length or label can't be compared.
    names = {video.row.video for video in tested if video.label}
    videos = [v for v in videos if v.video in names and v.num_snippets]
    collector = ErrorCollector(skip=True)
    try:
        truth, remarks = read_ground_truth(path), []
        if own.is_split:
            truth, remarks = of_test_videos(truth, own.lists)
        times = _stated_times(report, videos)
        _, more = add_ground_truth(
            videos,
            own.lists["test"],
            truth,
            report.card,
            collector,
            times=times,
            slack=slack,
        )
        for remark in [*remarks, *more]:
            report.add_remark("truth", remark)
    except InputError as e:
        collector(e)
    report.add_errors("truth", collector)


def _stated_times(
    report: ValidationReport, videos: Sequence[FeatureFiles]
) -> dict[str, SnippetTimes]:
    """Returns snippet times of videos without features, from their stated lengths."""
    by_name, times = {video.row.video: video for video in report.videos}, {}
    for video in videos:
        entry = by_name[video.video]
        if not video.paths and entry.seconds:
            edges = np.linspace(0.0, entry.seconds, video.num_snippets + 1)
            times[video.video] = SnippetTimes(edges, entry.frames)
    return times
