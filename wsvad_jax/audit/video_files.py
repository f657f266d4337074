"""Finds the video files of training videos, for pictures, times and copies."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wsvad_jax.audit.sources import source_folder
from wsvad_jax.datasets import registry
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.progress import Progress
from wsvad_jax.utils.text import count

if TYPE_CHECKING:
    from wsvad_jax.data.dataset import Dataset, Entry

# Part by which a file may be longer or shorter than its features, besides two snippets:
# containers often state their length roughly.
TOLERANCE = 0.05


@dataclasses.dataclass(frozen=True)
class VideosAtHand:
    """Video files by name, what they state, and notes about those not used."""

    paths: Mapping[str, pathlib.Path]
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)  # fps
    hours: float = 0.0
    notes: tuple[str, ...] = ()


def find_video_files(dataset: "Dataset", folder: str | None = None) -> VideosAtHand:
    """Finds the files of the training videos.

    A file of another length than the features is left out: pictures of it would be of
    other moments, or of another video.

    Args:
      dataset: prepared dataset.
      folder: folder of the videos; None looks where the dataset was prepared from.

    Raises:
      InputError: no such folder, or none of its videos is in the dataset.
    """
    entries = {e.video: e for e in dataset.split("train").entries}
    found: dict[str, pathlib.Path] = {}
    if folder is not None:
        named = _named(pathlib.Path(folder).expanduser())
        found = {name: named[name] for name in entries if name in named}
        if not found:
            raise InputError(
                f"--videos {folder}: no video there has the name of a training video, such "
                f"as {next(iter(entries))}; found {next(iter(named))}"
            )

    # Videos that were moved since are no error: the page then has times alone.
    for place in _usual_places(dataset) if folder is None else ():
        if found or not place.is_dir():
            continue
        try:
            named = _named(place)
        except InputError:
            continue
        found = {name: named[name] for name in entries if name in named}
    return _checked(found, entries, dataset.card.stride)


def _named(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    from wsvad_jax.extraction.video_files import find_videos, name_videos
    from wsvad_jax.utils.file_search import SkippedFiles

    return name_videos(find_videos([folder], SkippedFiles()), [folder])


def _usual_places(dataset: "Dataset") -> list[pathlib.Path]:
    """Returns where the videos of a dataset are, unless they were moved."""
    places = []
    if source := source_folder(dataset.path):
        places.append(pathlib.Path(source) / "videos")
    if dataset.card.name == registry.DEMO:
        places.append(dataset.path.parent / "world" / "videos")
    return places


def _checked(
    found: Mapping[str, pathlib.Path], entries: Mapping[str, "Entry"], stride: int
) -> VideosAtHand:
    """Opens the files; leaves out those of another length than their features."""
    from wsvad_jax.extraction.decoding.containers import open_file
    from wsvad_jax.extraction.decoding.reader import VideoReader

    paths, rates, seconds, other = {}, {}, 0.0, []
    with Progress("opening videos", len(found), unit="video") as progress:
        for name, path in found.items():
            progress.update()
            try:
                with open_file(path) as container:
                    video = VideoReader(container, path)
                    frames, rate = video.expected_frames, video.rate
                    length = video.seconds
            except InputError:
                continue

            wanted = entries[name].num_frames
            slack = max(2 * stride, TOLERANCE * wanted)
            if frames and abs(frames - wanted) > slack:
                other.append(name)
                continue
            paths[name], seconds = path, seconds + length
            if rate:
                rates[name] = float(rate)

    notes = []
    if other:
        verb = "is" if len(other) == 1 else "are"
        notes.append(
            f"{count(len(other), 'video file')} {verb} longer or shorter than the features "
            f"of that name, such as {other[0]}, and not used"
        )
    missing = len(entries) - len(paths) - len(other)
    if paths and missing:
        notes.append(f"no video file was found for {count(missing, 'training video')}")
    return VideosAtHand(paths, rates, seconds / 3600, tuple(notes))
