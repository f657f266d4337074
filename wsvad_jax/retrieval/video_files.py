"""Finds the video files of features, for pictures and frame rates."""

import os
import pathlib
from collections.abc import Mapping, Sequence

from wsvad_jax.data import sidecar
from wsvad_jax.extraction.decoding.containers import open_file
from wsvad_jax.extraction.decoding.reader import VideoReader
from wsvad_jax.extraction.video_files import SUFFIXES, find_videos, name_videos
from wsvad_jax.retrieval.library import LibraryVideo
from wsvad_jax.utils.errors import InputError


class VideoFinder:
    """Finds videos by the names of their features."""

    def __init__(self, folder: str | os.PathLike | None = None):
        """Lists the videos of a folder; None looks beside the features only.

        Raises:
          InputError: the folder holds no videos.
        """
        self.named: Mapping[str, pathlib.Path] = {}
        if folder is not None:
            self.named = name_videos(find_videos([folder]), [folder])
        self._found: dict[str, pathlib.Path | None] = {}
        self._rates: dict[pathlib.Path, float] = {}

    def check_names(self, names: Sequence[str]) -> None:
        """Raises InputError if a folder was given, and none of its videos is meant."""
        if self.named and not any(name in self.named for name in names):
            raise InputError(
                f"--videos: no video there has the name of a searched one, such as "
                f"{names[0]}; found {next(iter(self.named))}"
            )

    def find(self, video: LibraryVideo) -> pathlib.Path | None:
        """Returns the file of a video, None where it isn't found."""
        if video.name not in self._found:
            self._found[video.name] = video.path or self._search(video)
        return self._found[video.name]

    def _search(self, video: LibraryVideo) -> pathlib.Path | None:
        places = [self.named[video.name]] if video.name in self.named else []
        for folder in video.folders:
            places += [folder / f"{video.name}{suffix}" for suffix in SUFFIXES]
        for path in places:
            if path.is_file() and _is_source(path, video):
                return path
        return None

    def rate(self, path: pathlib.Path | None) -> float:
        """Returns the frame rate that a video file states, 0 if unknown."""
        if path is None:
            return 0.0
        if path not in self._rates:
            try:
                with open_file(path) as container:
                    self._rates[path] = VideoReader(container, path).rate
            except InputError:
                self._rates[path] = 0.0
        return self._rates[path]


def _is_source(path: pathlib.Path, video: LibraryVideo) -> bool:
    """Whether features were made from this very file, as far as they say."""
    try:
        return not video.source or sidecar.fingerprint(path) == video.source
    except OSError:
        return False
