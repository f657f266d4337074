"""Searches videos for moments that match words or an example picture.

from wsvad_jax.retrieval.search import VideoSearch
for moment in VideoSearch(["features"])("a car on fire"):
    print(moment.video, moment.start, moment.score)
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from wsvad_jax.data import feature_protocols
from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.detection import inputs
from wsvad_jax.extraction.video import RESIZES
from wsvad_jax.retrieval import library as libraries
from wsvad_jax.retrieval import queries
from wsvad_jax.retrieval.index import SnippetIndex
from wsvad_jax.retrieval.library import DetectionModel, Library, LibraryVideo
from wsvad_jax.retrieval.moments import SnippetRange, find_moments
from wsvad_jax.retrieval.video_files import VideoFinder
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.hub_access import parse_hub_name
from wsvad_jax.utils.text import count
from wsvad_jax.weights.trained_model import can_load

if TYPE_CHECKING:
    from wsvad_jax.clip.snapshot import Snapshot
    from wsvad_jax.extraction.extractor import Extractor

FPS = 30.0  # frames per second, where neither features nor videos say
PER_VIDEO = 3  # most moments of one video, where there are several


@dataclasses.dataclass(frozen=True)
class Moment:
    """A part of a video that matches a query."""

    rank: int  # 1 is the best
    video: str  # name of the video
    start: float  # seconds
    end: float  # seconds
    peak: float  # middle of the best snippet, in seconds
    score: float  # cosine of the best snippet with the query
    path: pathlib.Path | None  # video file, None where it isn't found

    def as_dict(self) -> dict[str, object]:
        """Returns the moment as JSON holds it, numbers rounded."""
        return {
            "rank": self.rank,
            "video": self.video,
            "path": None if self.path is None else str(self.path),
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "peak": round(self.peak, 3),
            "score": round(self.score, 4),
        }


class VideoSearch:
    """Opens features once, and answers any number of queries about them."""

    def __init__(
        self,
        sources: Sequence[str | os.PathLike],
        clip: str | os.PathLike | None = None,
        *,
        fps: float | None = None,
        videos: str | os.PathLike | None = None,
        data_dir: str | os.PathLike | None = None,
    ):
        """Opens the features, and the CLIP model that made them.

        Args:
          sources: folders or files of features or videos, results of `detect`, or one
            prepared dataset, by path or name.
          clip: hub name or folder of the CLIP model; None is the one that the features
            name.
          fps: frames per second of features without times; None is that of the video
            file, and 30 where there is none.
          videos: folder of the video files of features, for pictures and rates.
          data_dir: folder of prepared datasets; None is the one in the cache.

        Raises:
          InputError: nothing to search, no CLIP model, or another one than that of the
            features.
        """
        paths = [os.fspath(source) for source in sources]
        self.library, self.snapshot = _open(
            paths, None if clip is None else os.fspath(clip), data_dir
        )
        self.fps = fps
        self.finder = VideoFinder(videos)
        self.finder.check_names([video.name for video in self.library.videos])
        self.index = SnippetIndex([video.rows for video in self.library.videos])
        self.remarks = _check_clip(self.library, self.snapshot, self.index.width)
        if fps and all(video.edges is not None for video in self.library.videos):
            self.remarks.append("--fps has no effect: all features have times")
        self._words: dict[str, np.ndarray] = {}

    @property
    def protocol(self) -> FeatureProtocol:
        """Protocol of the features."""
        return self.library.reference.protocol

    def clip_note(self, *, words: bool) -> str | None:
        """Returns what the CLIP model was trained on, see `clip.training_notes`.

        Args:
          words: whether words are searched for, which the text tower reads.
        """
        tower = {"clip": self.snapshot.name, "settings": self.snapshot.text_settings}
        here = feature_protocols.snapshot_protocol(self.snapshot, self.protocol.resize)
        return feature_protocols.clip_note(here, tower if words else None)

    @property
    def crops(self) -> str:
        """Says which crops are searched."""
        most = max(video.num_crops for video in self.library.videos)
        return "the only one" if most == 1 else f"the first of {most}"

    @functools.cached_property
    def extractor(self) -> "Extractor":
        """Encoder of example pictures, which cuts them as the frames were cut."""
        from wsvad_jax.extraction.extractor import Extractor

        resize = self.protocol.resize
        known = resize if resize in RESIZES else RESIZES[0]
        return Extractor(self.snapshot, resize=known, batch_size=1)

    def __call__(
        self, words: str, *, top: int = 10, per_video: int | None = None
    ) -> list[Moment]:
        """Returns the moments that match words, the best first.

        Args:
          words: what is to be seen, such as "a car on fire".
          top: most moments.
          per_video: most moments of one video; None is 3, and no limit for one video.

        Raises:
          InputError: no words, too many, `top` below 1, or damaged features.
        """
        check_top(top)
        words = queries.check_text(words)
        if words not in self._words:
            self._words[words] = queries.encode_words(self.snapshot, words)
        return self.by_feature(self._words[words], top=top, per_video=per_video)

    def by_picture(
        self,
        picture: str | os.PathLike | UInt8[np.ndarray, "H W 3"],
        *,
        top: int = 10,
        per_video: int | None = None,
    ) -> list[Moment]:
        """Returns the moments that look like a picture; arguments as for words.

        Args:
          picture: picture file, or RGB array.
          top: most moments.
          per_video: most moments of one video.
        """
        check_top(top)
        if not isinstance(picture, np.ndarray):
            picture = queries.read_picture(picture)
        if self.protocol.resize not in RESIZES:
            self._remark(
                "the features don't say how frames were cut: the example picture is cut "
                f"as extract --resize {RESIZES[0]} does"
            )
        feature = queries.encode_picture(self.extractor, picture)
        return self.by_feature(feature, top=top, per_video=per_video)

    def by_feature(
        self,
        feature: Float[np.ndarray, "D"],
        *,
        top: int = 10,
        per_video: int | None = None,
    ) -> list[Moment]:
        """Returns the moments nearest to a feature; other arguments as for words."""
        check_top(top)
        limit = self.limit_per_video(per_video)
        scores = self.index.cosines(feature)
        found = find_moments(scores, self.index.offsets, top, limit)
        return [self._moment(i, part) for i, part in enumerate(found, 1)]

    def limit_per_video(self, per_video: int | None) -> int | None:
        """Returns the most moments of one video; None is no limit.

        Raises:
          InputError: the limit is below 1.
        """
        if per_video is not None:
            check_top(per_video, "per_video")
        elif len(self.library.videos) > 1:
            return PER_VIDEO
        return per_video

    def _remark(self, remark: str) -> None:
        """Adds a remark once, however many queries lead to it."""
        if remark not in self.remarks:
            self.remarks.append(remark)

    def _moment(self, rank: int, part: SnippetRange) -> Moment:
        """Returns a moment with its times and its video file."""
        video = self.library.videos[part.video]
        path = self.finder.find(video)
        edges = self._edges(video, path)
        start, end = float(edges[part.first]), float(edges[part.last + 1])
        peak = float(edges[part.peak] + edges[part.peak + 1]) / 2
        return Moment(rank, video.name, start, end, peak, part.score, path)

    def _edges(self, video: LibraryVideo, path: pathlib.Path | None) -> np.ndarray:
        """Returns a video's snippet edges in seconds; notes an assumed frame rate."""
        if video.edges is not None:
            return video.edges
        rate = self.fps or self.finder.rate(path)
        if not rate:
            remark = (
                f"times assume {FPS:g} frames per second, since the features have no "
                "times and no video was found; pass --fps, or --videos DIR"
            )
            self._remark(remark)
        return inputs.frame_edges(video.rows.num_snippets, video.stride, rate or FPS)


def check_top(top: int, name: str = "top") -> None:
    """Raises InputError unless at least one moment is asked for."""
    if top < 1:
        raise InputError(f"{name} is {top}; expected at least 1 moment")


def _open(
    paths: Sequence[str], clip: str | None, data_dir: Any
) -> tuple[Library, "Snapshot"]:
    """Opens the sources, and loads the CLIP model."""
    from wsvad_jax.clip.snapshot import load_snapshot

    if prepared := _prepared(paths, data_dir):
        library = libraries.open_dataset(prepared)
        return library, load_snapshot(clip or _named_clip(library))

    found, errors, models = libraries.find(paths)
    features = [source for source in found if not source.is_video]
    videos = [source for source in found if source.is_video]
    if videos and features:
        raise InputError(
            f"{videos[0].files[0]} is a video, and {features[0].files[0]} is of "
            "features; search them apart"
        )

    if features:
        library = libraries.open_features(features)
        snapshot = load_snapshot(clip or _named_clip(library))
    else:
        snapshot = load_snapshot(clip) if clip else _clip_of_detection(models)
        library = libraries.open_videos(videos, snapshot, str(snapshot.path))
    library.errors[:0] = errors
    return library, snapshot


def _prepared(paths: Sequence[str], data_dir: Any) -> pathlib.Path | None:
    """Returns the version folder if the sources are one prepared dataset."""
    from wsvad_jax.datasets import registry

    for path in paths:
        # A file or folder here comes before a dataset of that name.
        here = os.path.exists(path)
        place = os.path.abspath(path) if here else path
        # A demo world is built where it is missing.
        demo = registry.demo_world(path) is not None and not here
        if not demo and not registry.find_prepared(place, data_dir):
            continue
        if len(paths) > 1:
            raise InputError(
                f"{path}: a prepared dataset is searched by itself; leave the others out"
            )
        return registry.resolve(place, data_dir)
    return None


def _named_clip(library: Library) -> str:
    """Returns the CLIP model that features name.

    Raises:
      InputError: they name none, or it isn't here.
    """
    encoder, first = library.reference.protocol.encoder, library.reference.name
    for folder in library.clip_folders:
        if library.clip and (folder / library.clip).is_dir():
            return str((folder / library.clip).resolve())
    name = library.clip or encoder.partition("@")[0]
    if can_load(name):
        return name

    if library.clip:
        raise InputError(
            f"{first}: its features were made by the CLIP model {library.clip}, which "
            "is not here; pass --clip NAME|DIR"
        )
    if encoder in feature_protocols.UNKNOWN:
        raise InputError(
            f"{first}: its features don't say which CLIP model made them; pass it as "
            "--clip NAME|DIR"
        )
    raise InputError(
        f"{first}: features of {encoder}, which names no CLIP model; search needs "
        "features of a CLIP model, as extract makes them (or pass --clip, if it is one)"
    )


def _clip_of_detection(models: Sequence[DetectionModel]) -> "Snapshot":
    """Returns the CLIP model of the image tower that `detect` used.

    Raises:
      InputError: no model is known or here, or there are several.
    """
    from wsvad_jax.clip.snapshot import load_snapshot
    from wsvad_jax.weights.hub_model import find_checkpoint
    from wsvad_jax.weights.model_folder import read_meta
    from wsvad_jax.weights.trained_model import image_snapshot

    if len(models) > 1:
        raise InputError(
            f"the results of detect are of several models ({', '.join(map(str, models))}); "
            "pass one CLIP model for all videos as --clip NAME|DIR"
        )
    for model in models:
        # Of the hub, results name the commit; a plain name is a folder's.
        remote = parse_hub_name(model.checkpoint)
        if os.path.isdir(model.checkpoint) or (remote and remote.revision):
            folder = find_checkpoint(model.checkpoint).folder
            return image_snapshot(folder, read_meta(folder))
        if model.clip and can_load(model.clip):
            return load_snapshot(model.clip)
    raise InputError(
        "videos are searched with a CLIP model; pass one as --clip NAME|DIR, such as "
        "openai/clip-vit-base-patch16"
    )


def _check_clip(library: Library, snapshot: "Snapshot", width: int) -> list[str]:
    """Compares the features with a CLIP model; returns remarks.

    Raises:
      InputError: another model made the features.
    """
    wanted, first = library.reference.protocol, library.reference.name
    here = feature_protocols.snapshot_protocol(snapshot, wanted.resize)
    if differs := feature_protocols.encoder_difference(here, wanted):
        raise InputError(
            f"{first}: {snapshot.path} is {here.encoder}, but the features are of "
            f"{wanted.encoder}: {differs}; pass the CLIP model that made them as --clip"
        )
    if snapshot.vision.projection_dim != width:
        raise InputError(
            f"{first}: features {width} wide, but {snapshot.path} makes them "
            f"{snapshot.vision.projection_dim} wide; pass the CLIP model that made them "
            "as --clip"
        )
    if silent := sum(not video.names_encoder for video in library.videos):
        whose = f"the features of {count(silent, 'video')}"
        return [f"{whose} don't say what made them; {snapshot.name} is taken for it"]
    return []
