"""A folder of features with one protocol, each complete or absent."""

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
from wsvad_jax.data.feature_files import read_features, read_shape
from wsvad_jax.data.sidecar import Sidecar
from wsvad_jax.extraction.extractor import ExtractedFeatures, Extractor
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError, UnreadableError

LAYOUTS = ("one", "crops")
PROTOCOL = "protocol.json"


class FeatureFolder:
    """A folder of features with one protocol."""

    def __init__(
        self,
        folder: str | os.PathLike,
        extractor: Extractor,
        layout: str = "one",
        clip: str = "",
    ):
        """Creates the folder, without any file.

        Raises:
          InputError: the layout is unknown, or the folder can't be written.
        """
        if layout not in LAYOUTS:
            raise InputError(f"layout must be one or crops, found {layout!r}")
        self.folder, self.layout, self.clip = make_folder(folder), layout, clip
        # Names and values as in protocol.json and in each sidecar.
        self.settings = {
            "encoder": extractor.encoder,
            "weights_hash": extractor.weights_hash,
            "stride": extractor.stride,
            "frame": extractor.frame,
            "crops": extractor.crops,
            "resize": extractor.resize,
            "image_size": extractor.config.image_size,
            "encoder_settings": extractor.encoder_settings,
            "dtype": extractor.dtype,
        }
        self.clip_note = feature_protocols.clip_note(extractor.protocol)
        self.width = extractor.config.projection_dim

    def claim(self, names: Iterable[str]) -> None:
        """Writes protocol.json before the first feature, or checks the one there.

        Args:
          names: names of all videos that may be written.

        Raises:
          InputError: the folder's features have another or an unknown protocol.
        """
        path = self.folder / PROTOCOL
        if path.exists():
            stored = files.read_json(path)
            self._compare(path, stored, {"layout": self.layout})
            # The same weights may have several names; a folder keeps its first one.
            self.settings["encoder"] = stored.get("encoder", self.settings["encoder"])
            return

        # Features without a protocol may come from any encoder.
        for name in names:
            for file in self.feature_files(name):
                if file.exists():
                    raise InputError(
                        f"{file}: already exists, without a {PROTOCOL} that states its "
                        "protocol; choose another output folder"
                    )

        protocol = self.settings | {"layout": self.layout, "clip": self.clip}
        if self.clip_note:
            protocol["clip_note"] = self.clip_note
        files.write_json(path, protocol)

    def _compare(
        self, path: pathlib.Path, stored: Any, more: Mapping[str, Any]
    ) -> None:
        """Raises InputError if a JSON file states other settings than this folder's."""
        wanted = self.settings | dict(more)
        if not isinstance(stored, dict):
            raise InputError(f"{path}: expected a JSON object, found {stored!r:.60}")
        # Older versions didn't state the precision.
        stored = {"dtype": Sidecar.dtype} | stored

        # The hash stands for the encoder; its settings only explain a difference.
        compared = [k for k in wanted if k not in ("encoder", "encoder_settings")]
        differ = [
            f"{key} {stored.get(key, 'unknown')} there and {wanted[key]} now"
            for key in compared
            if stored.get(key) != wanted[key]
        ]
        details = feature_protocols.settings_difference(
            self.settings["encoder_settings"],
            feature_protocols.protocol_from_json(stored).encoder_settings,
            (self.settings["weights_hash"], str(stored.get("weights_hash", ""))),
        )
        if differ := ", ".join([*differ, *([details] if details else [])]):
            raise InputError(
                f"{path}: the features there have another protocol ({differ}); "
                "choose another output folder"
            )

    def feature_files(self, name: str) -> list[pathlib.Path]:
        """Returns the paths of a video's feature files, which need not exist."""
        if self.layout == "one":
            return [self.folder / f"{name}.npy"]
        crops = range(self.settings["crops"])
        return [self.folder / f"{name}__{n}.npy" for n in crops]

    def writable_videos(
        self, named: Mapping[str, pathlib.Path], errors: list[InputError]
    ) -> dict[str, pathlib.Path]:
        """Returns the videos whose names can be file names in this folder.

        Args:
          named: videos by the names of their features.
          errors: list for one error per other video.
        """
        writable = {}
        for name, video in named.items():
            side = self.folder / f"{name}.json"
            try:
                self._check_names(side, *self.feature_files(name))
            except OSError as e:
                errors.append(_unwritable(video, e))
                continue

            # Its sidecar would replace the folder's protocol.
            if side == self.folder / PROTOCOL:
                text = f"{video}: its sidecar would be {PROTOCOL}; rename the video"
                errors.append(InputError(text))
                continue

            writable[name] = video
        return writable

    def _check_names(self, *paths: pathlib.Path) -> None:
        """Raises OSError for paths that the file system refuses, such as long ones."""
        for path in paths:
            parts = path.relative_to(self.folder).parts
            # A missing folder hides that a name in it is too long, so each name is
            # checked by itself.
            for candidate in (path, *(self.folder / part for part in parts)):
                with contextlib.suppress(FileNotFoundError):
                    os.lstat(candidate)

    def missing(self, named: Mapping[str, pathlib.Path]) -> dict[str, pathlib.Path]:
        """Returns the videos without complete features."""
        return {
            name: video
            for name, video in named.items()
            if not self.is_complete(name, video)
        }

    def is_complete(self, name: str, video: pathlib.Path) -> bool:
        """Returns whether the folder has complete features of this very video.

        Raises:
          InputError: the features have another protocol.
        """
        path = self.folder / f"{name}.json"
        try:
            side = sidecar.read(path)
            shapes = {read_shape(file) for file in self.feature_files(name)}
        except UnreadableError:
            raise
        except InputError:
            return False
        self._compare(path, dataclasses.asdict(side), {})

        # The file of this name may be another video than the one extracted before.
        N, T, D = side.crops, len(side.seconds), self.width
        expected = (N, T, D) if self.layout == "one" else (T, D)
        try:
            same = side.source == sidecar.fingerprint(video)
        except OSError:  # the decoder reports the reason
            same = False
        return same and shapes == {expected}

    def write(self, name: str, extracted: ExtractedFeatures) -> None:
        """Writes a video's features, then its sidecar, which marks them as complete.

        Raises:
          InputError: the video was removed, or the system refuses its file names.
          OSError: the error affects all videos, such as a full disk.
        """
        path = self.folder / f"{name}.json"
        side = self.make_sidecar(extracted)
        try:
            path.unlink(missing_ok=True)  # of an older version of the video
            for file, array in zip(
                self.feature_files(name),
                [extracted.features] if self.layout == "one" else extracted.features,
                strict=True,
            ):
                with files.atomic_path(file) as temporary:
                    np.save(temporary, array)
            side.write(path)
        except OSError as e:
            # Only errors about one name or one subfolder are this video's alone.
            denied = e.errno in (errno.EACCES, errno.EPERM)
            if e.errno in files.NAME_ERRNOS or denied and path.parent != self.folder:
                raise _unwritable(extracted.path, e) from None
            raise

    def read(self, name: str) -> Float16[np.ndarray, "N T D"]:
        """Reads a video's features back."""
        arrays = [read_features(file) for file in self.feature_files(name)]
        return arrays[0] if self.layout == "one" else np.stack(arrays)

    def remove_leftovers(self, names: Iterable[str]) -> None:
        """Removes temporary files of these videos, which a killed process left."""
        # Other files of similar names may be the user's, so exact stems are matched.
        stems = set()
        for name in names:
            for file in [*self.feature_files(name), self.folder / f"{name}.json"]:
                # Older versions built temporary names from the whole name.
                former = f".{file.name.removesuffix(file.suffix)}"
                stems.add((file.parent, files.temporary_stem(file), file.suffix))
                stems.add((file.parent, former, file.suffix))

        for parent in {parent for parent, _, _ in stems}:
            for path in parent.glob(".*-????????.*"):
                match = re.fullmatch(r"(\..+)-[a-z0-9_]{8}(\.npy|\.json)", path.name)
                if match and (parent, match[1], match[2]) in stems:
                    path.unlink(missing_ok=True)

    def make_sidecar(self, extracted: ExtractedFeatures) -> Sidecar:
        """Returns the sidecar of a video's features.

        Raises:
          InputError: the video can no longer be read.
        """
        try:
            source = sidecar.fingerprint(extracted.path)
        except OSError as e:
            raise InputError(
                f"{extracted.path}: can no longer be read ({e.strerror}); its features "
                "are not written"
            ) from None

        return Sidecar(
            video=extracted.path.name,
            fps=extracted.fps,
            num_frames=extracted.num_frames,
            seconds=tuple(round(float(s), 6) for s in extracted.seconds),
            duration=round(extracted.duration, 6),
            damage=extracted.damage,
            remark=extracted.remark,
            source=source,
            **self.settings,
        )


def _unwritable(video: pathlib.Path, error: OSError) -> InputError:
    return InputError(
        f"{video}: its features can't be written ({error.strerror}); rename the video or "
        "its folder"
    )


def make_folder(path: str | os.PathLike) -> pathlib.Path:
    """Creates a folder and checks that files can be written to it.

    Raises:
      InputError: the folder can't be created or written.
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
