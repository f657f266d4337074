"""Finds videos of a custom folder whose files are equal, byte for byte."""

import contextlib
import hashlib
import os
import pathlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from wsvad_jax.datasets.validation.report import ValidationReport
from wsvad_jax.utils.progress import Progress


def report_duplicates(
    report: ValidationReport, paths: Mapping[str, Sequence[pathlib.Path]]
) -> None:
    """Reports equal videos: train/test leakage and two labels are problems.

    Args:
      report: report with the listed videos.
      paths: files of each video, by its name.
    """
    by_name = {video.row.video: video for video in report.videos}
    for names in identical_files(paths):
        videos = [by_name[name] for name in names]

        # Leakage comes first: it makes the test metrics wrong.
        listed = ", ".join(f"{v.row.video} ({v.split})" for v in videos)
        if len({v.split for v in videos}) > 1:
            report.add_problem(
                "leakage",
                f"the same content is in both lists (train/test leakage): {listed}; "
                "keep it in one of them",
            )
        elif len({v.row.labels for v in videos}) > 1:
            labels = " and ".join(sorted({"+".join(v.row.labels) for v in videos}))
            report.add_problem(
                "leakage", f"the same content is labelled {labels}: {listed}; keep one"
            )
        else:
            report.add_remark("files", f"the same content is listed twice: {listed}")


def identical_files(
    paths: Mapping[str, Sequence[pathlib.Path]],
) -> Iterator[tuple[str, ...]]:
    """Yields groups of names with equal files, after reading as few files as possible."""
    # Files of different sizes differ, so most files need not be read.
    by_size: dict[tuple, list[str]] = defaultdict(list)
    for name, parts in paths.items():
        with contextlib.suppress(OSError):  # which is reported elsewhere
            by_size[tuple(os.path.getsize(p) for p in parts)].append(name)
    candidates = [names for names in by_size.values() if len(names) > 1]

    total = sum(map(len, candidates))
    with Progress("comparing files", total, unit="file") as progress:
        for names in candidates:
            # The content decides, one digest per file.
            by_digest: dict[tuple, list[str]] = defaultdict(list)
            for name in names:
                with contextlib.suppress(OSError):
                    by_digest[tuple(map(_digest, paths[name]))].append(name)
                progress.update()

            yield from (tuple(g) for g in by_digest.values() if len(g) > 1)


def _digest(path: pathlib.Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
