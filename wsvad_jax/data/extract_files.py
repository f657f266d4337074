"""Features of many videos to files: each is whole or absent, and made only once.

  OUTPUT/VIDEO.npy                  [N, T, D] float16 (`layout="one"`), or
  OUTPUT/VIDEO__0.npy, ...          [T, D], one file a crop (`layout="crops"`)
  OUTPUT/VIDEO.json                 its sidecar (`data.sidecar`), written last
  OUTPUT/protocol.json              how all of them were made, written first

VIDEO is the file's path below the folder that it was found in, without its suffix.
"""

import contextlib
import dataclasses
import errno
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float16

from wsvad_jax import files
from wsvad_jax.data import protocols, sidecar
from wsvad_jax.data.extraction import Extracted, Extractor
from wsvad_jax.data.features import read, shape_of
from wsvad_jax.data.sidecar import Sidecar
from wsvad_jax.data.video_files import SUFFIXES, Paths, find_videos, name_videos
from wsvad_jax.errors import InputError, Unreadable
from wsvad_jax.progress import Progress

__all__ = ["SUFFIXES", "Target", "extract_files", "find_videos", "name_videos"]

LAYOUTS = ("one", "crops")
PROTOCOL = "protocol.json"


@dataclasses.dataclass
class Summary:
    """What became of the videos, and how fast."""

    done: list[str] = dataclasses.field(default_factory=list)  # names
    skipped: list[str] = dataclasses.field(default_factory=list)  # were there already
    damaged: dict[str, str] = dataclasses.field(default_factory=dict)  # of the done
    remarks: dict[str, str] = dataclasses.field(default_factory=dict)  # of the done
    failed: list[InputError] = dataclasses.field(default_factory=list)
    unread: str = ""  # files that were passed over, see `walk.Passed`
    frames: int = 0  # decoded
    seconds_of_video: float = 0.0
    wall: float = 0.0  # seconds

    def __str__(self) -> str:
        counts = f"{len(self.done)} extracted"
        if self.damaged:
            counts += f" ({len(self.damaged)} of them damaged)"
        counts += f", {len(self.skipped)} already there"
        if self.failed:
            counts += f", {len(self.failed)} unreadable"
        if not self.frames:
            return f"videos: {counts}"
        return (
            f"videos: {counts}; {self.frames} frames in {self.wall:.1f} s: "
            f"{self.frames / self.wall:.1f} frames/s, "
            f"{self.seconds_of_video / self.wall:.2f} x real time"
        )


def extract_files(
    videos: Paths,
    output: str | os.PathLike,
    extractor: Extractor,
    *,
    layout: str = "one",
    shard: tuple[int, int] = (0, 1),
    root: str | os.PathLike | Paths | None = None,
    clip: str = "",
) -> Summary:
    """Extracts videos into a folder; what is there and whole is left as it is.

    Args:
      videos: files, see `find_videos`.
      output: made if missing.
      extractor: what makes the features.
      layout: `one` file a video, or one of each of its `crops`.
      shard: (i, n): only every n-th video, beginning with number i, counted from 0.
      root: the folder or folders that videos are named relative to; None: file names.
      clip: where the CLIP model is, for protocol.json.

    Returns:
      what was done; videos that can't be read are in its `failed`.

    Raises:
      InputError: two videos of one name, a shard that there is not, features in the
        folder that were made in another way or are of unknown origin, no folder.
    """
    start = time.monotonic()
    roots = (
        [] if root is None else [root] if isinstance(root, str | os.PathLike) else root
    )
    target, summary = Target(output, extractor, layout, clip), Summary()
    named = target.fitting(name_videos(videos, roots), summary.failed)
    target.claim(named)
    part = choose(named, shard)
    left = target.missing(part)
    summary.skipped += [name for name in part if name not in left]
    if left:
        with Progress("extracting", len(left), unit="video") as progress:

            def tick(videos: int) -> None:
                progress.update(
                    videos, frames=summary.frames, unreadable=len(summary.failed)
                )

            extract_missing(left, target, extractor, summary, tick)
    summary.wall = time.monotonic() - start
    return summary


def choose(
    named: Mapping[str, pathlib.Path], shard: tuple[int, int]
) -> dict[str, pathlib.Path]:
    """Returns shard i of n: every n-th video.

    Raises:
      InputError: a shard that there is not.
    """
    i, n = shard
    if not 0 <= i < n:
        raise InputError(f"shard {i}/{n}: expected i/n with i from 0 to n - 1")
    return dict(list(named.items())[i::n])


def extract_missing(
    left: Mapping[str, pathlib.Path],
    target: "Target",
    extractor: Extractor,
    summary: Summary,
    tick: Callable[[int], None] = lambda videos: None,
) -> None:
    """Extracts videos that are not there yet and notes in `summary` what became of it.

    Args:
      left: videos by name, of `Target.missing`.
      target: the folder, claimed.
      extractor: what makes the features.
      summary: is added to.
      tick: called now and then with the number of videos finished since.
    """

    def count(frames: int) -> None:
        summary.frames += frames
        tick(0)

    target.clean(left)
    names = {video: name for name, video in left.items()}
    for found in extractor.stream(names, errors=summary.failed, tick=count):
        name = names[found.path]
        try:
            target.write(name, found)
        except InputError as e:
            summary.failed.append(e)
            continue
        summary.done.append(name)
        summary.seconds_of_video += found.duration
        if found.damage:
            summary.damaged[name] = found.damage
        if found.remark:
            summary.remarks[name] = found.remark
        tick(1)


class Target:
    """A folder of features that are all made in one way."""

    def __init__(
        self,
        folder: str | os.PathLike,
        extractor: Extractor,
        layout: str = "one",
        clip: str = "",
    ):
        """Writes nothing yet.

        Raises:
          InputError: a layout that does not exist, or no folder.
        """
        if layout not in LAYOUTS:
            raise InputError(f"layout must be one or crops, found {layout!r}")
        self.folder, self.layout, self.clip = make_folder(folder), layout, clip
        self.settings = {
            "encoder": extractor.encoder,
            "weights_hash": extractor.weights_hash,
            "stride": extractor.stride,
            "frame": extractor.frame,
            "crops": extractor.crops,
            "resize": extractor.resize,
            "image_size": extractor.config.image_size,
            "encoder_settings": extractor.encoder_settings,
        }
        self.width = extractor.config.projection_dim

    def claim(self, names: Iterable[str]) -> None:
        """Notes how the folder's features are made, before the first is written.

        Raises:
          InputError: they are made in another way, or nobody knows how.
        """
        path = self.folder / PROTOCOL
        if path.exists():
            found = files.read_json(path)
            self._compare(path, found, {"layout": self.layout})
            # The same weights may be called otherwise now; a folder has one name.
            self.settings["encoder"] = found.get("encoder", self.settings["encoder"])
            return
        for name in names:
            for file in self.feature_files(name):
                if file.exists():
                    raise InputError(
                        f"{file}: is there already, without a {PROTOCOL} that says how "
                        "it was made; choose another output folder"
                    )
        found = self.settings | {"layout": self.layout, "clip": self.clip}
        files.write_json(path, found)

    def _compare(self, path: pathlib.Path, found: Any, more: Mapping[str, Any]) -> None:
        wanted = self.settings | dict(more)
        if not isinstance(found, dict):
            raise InputError(f"{path}: expected a JSON object, found {found!r:.60}")
        named = [k for k in wanted if k not in ("encoder", "encoder_settings")]
        differ = [
            f"{key} {found.get(key, 'unknown')} there and {wanted[key]} now"
            for key in named
            if found.get(key) != wanted[key]
        ]
        # What the hash stands for, in words; older versions noted the hash alone.
        details = protocols.settings_difference(
            self.settings["encoder_settings"],
            protocols.of(found).encoder_settings,
            (self.settings["weights_hash"], str(found.get("weights_hash", ""))),
        )
        if differ or details:
            raise InputError(
                f"{path}: the features there were made in another way "
                f"({', '.join([*differ, details] if details else differ)}); choose "
                "another output folder"
            )

    def feature_files(self, name: str) -> list[pathlib.Path]:
        """Returns a video's feature files, whether or not they are there."""
        if self.layout == "one":
            return [self.folder / f"{name}.npy"]
        crops = range(self.settings["crops"])
        return [self.folder / f"{name}__{n}.npy" for n in crops]

    def fitting(
        self, named: Mapping[str, pathlib.Path], errors: list[InputError]
    ) -> dict[str, pathlib.Path]:
        """Returns the videos whose names can be those of files here.

        Args:
          named: videos by the names of their features.
          errors: takes one error for each of the others.
        """
        good = {}
        for name, video in named.items():
            notes = self.folder / f"{name}.json"
            try:
                self._look(notes, *self.feature_files(name))
            except OSError as e:
                errors.append(_unwritable(video, e))
                continue
            if notes == self.folder / PROTOCOL:
                text = f"{video}: its notes would be {PROTOCOL}; rename the video"
                errors.append(InputError(text))
                continue
            good[name] = video
        return good

    def _look(self, *paths: pathlib.Path) -> None:
        """Raises OSError for paths that can't be in the folder, too long ones as a rule."""
        for path in paths:
            parts = path.relative_to(self.folder).parts
            # Folders that are not there yet hide that a name in them is too long.
            for place in (path, *(self.folder / part for part in parts)):
                with contextlib.suppress(FileNotFoundError):
                    os.lstat(place)

    def missing(self, named: Mapping[str, pathlib.Path]) -> dict[str, pathlib.Path]:
        """Returns the videos whose features are not there."""
        return {
            name: video for name, video in named.items() if not self.has(name, video)
        }

    def has(self, name: str, video: pathlib.Path) -> bool:
        """Says whether a video's features are there, whole, and of this very video.

        Raises:
          InputError: they were made in another way.
        """
        path = self.folder / f"{name}.json"
        try:
            side = sidecar.read(path)
            shapes = {shape_of(file) for file in self.feature_files(name)}
        except Unreadable:
            raise
        except InputError:
            return False
        self._compare(path, dataclasses.asdict(side), {})
        N, T, D = side.crops, len(side.seconds), self.width
        expected = (N, T, D) if self.layout == "one" else (T, D)
        try:
            same = side.source == sidecar.fingerprint(video)
        except OSError:  # the decoder will say what is wrong
            same = False
        return same and shapes == {expected}

    def write(self, name: str, found: Extracted) -> None:
        """Writes a video's features, then its sidecar, which says that they are whole.

        Raises:
          InputError: the video is gone, or the system refuses the names of its files.
          OSError: other videos' features could not be written either.
        """
        path = self.folder / f"{name}.json"
        described = self.describe(found)
        try:
            path.unlink(missing_ok=True)  # of an older version of the video
            for file, part in zip(
                self.feature_files(name),
                [found.features] if self.layout == "one" else found.features,
                strict=True,
            ):
                with files.atomic_path(file) as temporary:
                    np.save(temporary, part)
            described.write(path)
        except OSError as e:
            shut = e.errno in (errno.EACCES, errno.EPERM)
            if e.errno in files.ABOUT_ONE_NAME or shut and path.parent != self.folder:
                raise _unwritable(found.path, e) from None
            raise

    def read(self, name: str) -> Float16[np.ndarray, "N T D"]:
        """Reads a video's features back."""
        parts = [read(file) for file in self.feature_files(name)]
        return parts[0] if self.layout == "one" else np.stack(parts)

    def clean(self, names: Iterable[str]) -> None:
        """Removes what a killed process left of these videos (`files.atomic_path`)."""
        ours = set()
        for name in names:
            for file in [*self.feature_files(name), self.folder / f"{name}.json"]:
                # As they were called formerly: by the name, in whole.
                former = f".{file.name.removesuffix(file.suffix)}"
                ours.add((file.parent, files.temporary_stem(file), file.suffix))
                ours.add((file.parent, former, file.suffix))
        for parent in {parent for parent, _, _ in ours}:
            for path in parent.glob(".*-????????.*"):
                left = re.fullmatch(r"(\..+)-[a-z0-9_]{8}(\.npy|\.json)", path.name)
                if left and (parent, left[1], left[2]) in ours:
                    path.unlink(missing_ok=True)

    def describe(self, found: Extracted) -> Sidecar:
        """Returns the sidecar of a video's features.

        Raises:
          InputError: the video can't be read any more.
        """
        try:
            source = sidecar.fingerprint(found.path)
        except OSError as e:
            raise InputError(
                f"{found.path}: can't be read any more ({e.strerror}); its features are "
                "left out"
            ) from None
        return Sidecar(
            video=found.path.name,
            fps=found.fps,
            num_frames=found.num_frames,
            seconds=tuple(round(float(s), 6) for s in found.seconds),
            duration=round(found.duration, 6),
            damage=found.damage,
            remark=found.remark,
            source=source,
            **self.settings,
        )


def _unwritable(video: pathlib.Path, error: OSError) -> InputError:
    return InputError(
        f"{video}: its features can't be written ({error.strerror}); rename the video or "
        "its folder"
    )


def make_folder(path: str | os.PathLike) -> pathlib.Path:
    """Makes a folder that can be written to.

    Raises:
      InputError: it can't be made or written.
    """
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as e:
        raise InputError(
            f"{path}: can't be written ({e.strerror}); choose another output folder"
        ) from None
    return path
