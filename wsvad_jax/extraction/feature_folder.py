"""A folder of features that are all made in one way, each whole or absent."""

import contextlib
import dataclasses
import errno
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float16

from wsvad_jax.data import feature_protocols, sidecar
from wsvad_jax.data.feature_files import read, shape_of
from wsvad_jax.data.sidecar import Sidecar
from wsvad_jax.extraction.extractor import ExtractedFeatures, Extractor
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError, UnreadableError

LAYOUTS = ("one", "crops")


PROTOCOL = "protocol.json"


class FeatureFolder:
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
        # The encoder's settings say in words what its hash stands for.
        named = [k for k in wanted if k not in ("encoder", "encoder_settings")]
        differ = [
            f"{key} {found.get(key, 'unknown')} there and {wanted[key]} now"
            for key in named
            if found.get(key) != wanted[key]
        ]
        details = feature_protocols.settings_difference(
            self.settings["encoder_settings"],
            feature_protocols.protocol_from_json(found).encoder_settings,
            (self.settings["weights_hash"], str(found.get("weights_hash", ""))),
        )
        if differ := ", ".join([*differ, *([details] if details else [])]):
            raise InputError(
                f"{path}: the features there were made in another way ({differ}); "
                "choose another output folder"
            )

    def feature_files(self, name: str) -> list[pathlib.Path]:
        """Returns a video's feature files, whether or not they are there."""
        if self.layout == "one":
            return [self.folder / f"{name}.npy"]
        crops = range(self.settings["crops"])
        return [self.folder / f"{name}__{n}.npy" for n in crops]

    def writable_videos(
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
        except UnreadableError:
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

    def write(self, name: str, found: ExtractedFeatures) -> None:
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
            if e.errno in files.NAME_ERRNOS or shut and path.parent != self.folder:
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

    def describe(self, found: ExtractedFeatures) -> Sidecar:
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
