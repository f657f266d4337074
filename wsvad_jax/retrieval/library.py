"""Opens what is searched: feature files, prepared datasets, videos, results of detect.

Videos are extracted first, into the cache, where a later search finds their features.
Of features of several crops, the first crop is searched.
"""

import collections
import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from wsvad_jax.data import feature_files, feature_protocols
from wsvad_jax.data.records import FRAMES_PER_SNIPPET, FeatureProtocol
from wsvad_jax.detection import inputs
from wsvad_jax.detection.inputs import VideoInput
from wsvad_jax.extraction.video_files import name_videos
from wsvad_jax.retrieval.index import SnippetRows
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.file_search import SkippedFiles

if TYPE_CHECKING:
    from wsvad_jax.clip.snapshot import Snapshot

CROP = 0  # the centre crop of the released features and of extraction


@dataclasses.dataclass(frozen=True)
class LibraryVideo:
    """One video that is searched: its features, their times, and its file if known."""

    rows: SnippetRows
    num_crops: int
    protocol: FeatureProtocol
    edges: Float[np.ndarray, "T1"] | None  # seconds; None: only `stride` is known
    stride: int  # frames per snippet
    path: pathlib.Path | None = None  # video file, where it was passed itself
    source: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # fingerprint
    folders: tuple[pathlib.Path, ...] = ()  # where the video file may be

    @property
    def name(self) -> str:
        return self.rows.name

    @property
    def names_encoder(self) -> bool:
        """Whether the features say what made them."""
        return self.protocol.encoder not in feature_protocols.UNKNOWN


@dataclasses.dataclass(frozen=True)
class DetectionModel:
    """Model that `detect` used: a folder, or the CLIP model of zero-shot scoring."""

    checkpoint: str = ""
    clip: str = ""

    def __str__(self) -> str:
        return self.checkpoint or self.clip


@dataclasses.dataclass
class Library:
    """All videos that are searched, and which CLIP model made their features."""

    videos: list[LibraryVideo] = dataclasses.field(default_factory=list)
    clip: str = ""  # CLIP model that the features name
    clip_folders: tuple[pathlib.Path, ...] = ()  # that a relative `clip` starts at
    errors: list[InputError] = dataclasses.field(default_factory=list)  # left out

    @property
    def reference(self) -> LibraryVideo:
        """The first video whose features say what made them, else the first one."""
        return next((v for v in self.videos if v.names_encoder), self.videos[0])


def open_dataset(path: pathlib.Path) -> Library:
    """Opens all splits of a prepared dataset.

    The first crop's snippets are packed into one memory-mapped file per split, once.

    Args:
      path: version folder of the dataset.

    Raises:
      InputError: the dataset is damaged, or there is no space for the files.
    """
    from wsvad_jax.data.dataset import METADATA
    from wsvad_jax.data.dataset import open_dataset as open_prepared
    from wsvad_jax.data.packing import pack_windows

    dataset = open_prepared(path)
    card, source = dataset.card, files.read_json(path / METADATA).get("source")
    # The demo's videos are beside the dataset; those of others, where they came from.
    roots = [path.parent / "world", *([pathlib.Path(source)] if source else [])]
    library = Library(clip=card.clip, clip_folders=(dataset.path,))

    for split, records in dataset.splits.items():
        # A window of one snippet is a snippet.
        windows = pack_windows(dataset, split, 1, crop=CROP)
        ends = np.cumsum(windows.num_snippets)
        for entry, end, T in zip(
            records.entries, ends, windows.num_snippets, strict=True
        ):
            rows = SnippetRows(
                entry.video,
                int(T),
                dataset.width,
                functools.partial(_slice, windows.features, int(end - T), int(end)),
                lambda: None,
            )
            library.videos.append(
                LibraryVideo(
                    rows,
                    entry.num_crops,
                    dataset.protocol,
                    None,
                    card.stride,
                    folders=tuple(root / "videos" for root in roots),
                )
            )
    return library


def _slice(features: np.ndarray, start: int, stop: int) -> np.ndarray:
    return features[start:stop, 0, 0]


def open_features(
    found: Sequence[VideoInput], paths: Mapping[str, pathlib.Path] | None = None
) -> Library:
    """Opens feature files; their values stay on disk.

    Args:
      found: features, from `inputs.find_inputs`.
      paths: video files by name, where they are known.

    Raises:
      InputError: a damaged file, or features of two encoders.
    """
    from wsvad_jax.data.axes import StatedAxes

    axes, library = inputs.axes_of(found), Library()
    for source in found:
        layout = axes.get(source.name, "TD")
        if isinstance(layout, InputError):
            raise layout
        library.videos.append(
            _feature_video(source, layout, (paths or {}).get(source.name))
        )

    reference = library.reference
    named = found[0]
    for source, video in zip(found, library.videos, strict=True):
        _check_same_encoder(source, video, reference)
        if video is reference:
            named = source

    # Features name their CLIP model in the protocol.json beside or above them.
    where, stated = StatedAxes().file_of(named.files[0])
    library.clip = stated.get("clip", "")
    library.clip_folders = (where.parent, where.parent.parent)
    return library


def _feature_video(
    source: VideoInput, layout: str, path: pathlib.Path | None
) -> LibraryVideo:
    """Reads header, times and protocol of one video's features."""
    first, stored = source.files[0], "TD"
    shapes = {feature_files.read_shape(file) for file in source.files}
    shape = shapes.pop()
    if len(shape) == 3:
        stored = layout
    if shapes or len(shape) != len(stored) or 0 in shape:
        raise InputError(
            f"{first}: features of shape {list(shape)}; expected [snippets, width] or "
            "[crops, snippets, width], the same for all crops of a video"
        )

    T, D = shape[stored.index("T")], shape[-1]
    N = shape[stored.index("N")] if "N" in stored else len(source.files)
    edges, _, side, protocol = inputs.read_times(source, T, N, 1.0, 0)
    rows = SnippetRows(
        source.name,
        T,
        D,
        functools.partial(_map, first, stored),
        functools.partial(feature_files.read_features, first),
    )

    # Extraction names features by the path of the video below the searched folder.
    root = first.absolute().parents[source.name.count("/")]
    return LibraryVideo(
        rows,
        N,
        protocol,
        None if side is None else edges,
        protocol.stride or FRAMES_PER_SNIPPET,
        path,
        {} if side is None else side.source,
        (root, root.parent, root.parent / "videos"),
    )


def _map(path: pathlib.Path, layout: str) -> np.ndarray:
    """Maps the first crop of a feature file, [T, D]."""
    features = np.load(path, mmap_mode="r")
    if layout == "TD":
        return features
    return features[CROP] if layout == "NTD" else features[:, CROP]


def _check_same_encoder(
    source: VideoInput, video: LibraryVideo, reference: LibraryVideo
) -> None:
    """Raises InputError if a video's features are not of the reference's encoder."""
    if differs := feature_protocols.encoder_difference(
        video.protocol, reference.protocol
    ):
        raise InputError(
            f"{source.files[0]}: another CLIP model made it than {reference.name}: "
            f"{differs}; search them apart"
        )


def open_videos(
    found: Sequence[VideoInput], snapshot: "Snapshot", clip: str
) -> Library:
    """Extracts videos into the cache, unless they are there, and opens the features.

    Frames are cut as the CLIP model's own preprocessing does; the middle frame of each
    16 is encoded.

    Args:
      found: videos, from `inputs.find_inputs`.
      snapshot: CLIP model of the features.
      clip: its name or folder, noted beside the features.

    Raises:
      InputError: no video can be read.
    """
    from wsvad_jax.extraction.extract_files import Summary, extract_missing
    from wsvad_jax.extraction.extractor import Extractor
    from wsvad_jax.extraction.feature_folder import FeatureFolder
    from wsvad_jax.extraction.frame_progress import FrameProgress

    extractor = Extractor(snapshot, frame="middle", resize="clip")
    summary, named = Summary(), {}

    # One folder per root: a video has the same features in a folder and by itself.
    roots: dict[str, dict[str, pathlib.Path]] = {}
    for source in found:
        path = pathlib.Path(os.path.realpath(source.files[0].parent))
        root = path.parents[source.name.count("/") - 1] if "/" in source.name else path
        roots.setdefault(str(root), {})[source.name] = source.files[0]

    # Known features need no frames, and which are known is seen root by root.
    with FrameProgress("extracting", [], len(found)) as progress:
        for root, videos in roots.items():
            key = hashlib.blake2b(os.fsencode(root), digest_size=8)
            key.update(extractor.weights_hash.encode())
            place = files.cache_dir() / "search" / key.hexdigest()
            folder = FeatureFolder(place, extractor, clip=clip)
            writable = folder.writable_videos(videos, summary.failed)
            folder.claim(writable)
            missing = folder.missing(writable)
            progress.done(len(writable) - len(missing))
            if missing:
                extract_missing(missing, folder, extractor, summary, progress)
            named |= {
                name: (folder.feature_files(name)[0], video)
                for name, video in writable.items()
                if name in summary.done or name not in missing
            }

    if not named:
        raise summary.failed[0]
    features = [VideoInput(name, (file,)) for name, (file, _) in named.items()]
    library = open_features(features, {name: path for name, (_, path) in named.items()})
    library.errors += summary.failed
    return library


def detected_videos(
    folder: pathlib.Path, errors: list[InputError]
) -> tuple[list[VideoInput], DetectionModel]:
    """Returns the videos of a folder that `detect` wrote, and its model.

    Args:
      folder: folder with events.json.
      errors: list for one error per video that is not there any more.

    Raises:
      InputError: not a file of `detect`, or no video of it is there.
    """
    path = folder / "events.json"
    value = files.read_json(path)
    try:
        paths = [v["path"] for v in value["videos"]]
        settings = value["settings"]
        model = DetectionModel(
            str(settings.get("checkpoint", "")), str(settings.get("clip", ""))
        )
        videos = [pathlib.Path(p) for p in paths if p is not None]
    except (KeyError, TypeError, AttributeError):
        raise InputError(
            f"{path}: expected the events.json that detect writes; pass videos or "
            "features instead"
        ) from None

    there = [p for p in videos if p.is_file()]
    missing = [p for p in videos if not p.is_file()]
    errors += [InputError(f"{p}: the video is not there any more") for p in missing]
    if not there:
        what = (
            "its videos are not there any more" if videos else "it has no video paths"
        )
        raise InputError(
            f"{folder}: results of detect hold scores, not features, and {what}; pass "
            "the folder of the features or of the videos"
        )
    return _named_below_one_folder(there), model


def _named_below_one_folder(paths: Sequence[pathlib.Path]) -> list[VideoInput]:
    """Names videos by their paths below the folder that contains all of them."""
    absolute = [pathlib.Path(os.path.realpath(path)) for path in paths]
    root = os.path.commonpath([path.parent for path in absolute])
    named = name_videos(absolute, [root])
    return [VideoInput(name, (path,)) for name, path in named.items()]


def find(
    paths: Sequence[str],
) -> tuple[list[VideoInput], list[InputError], list[DetectionModel]]:
    """Finds videos and features in files, folders, and results of `detect`.

    Returns:
      The inputs, errors about what was left out, and each model of a `detect` once.

    Raises:
      InputError: no such file, or nothing to search.
    """
    skipped, models = SkippedFiles(), []
    found: list[VideoInput] = []
    others = []
    for path in paths:
        if (pathlib.Path(path) / "events.json").is_file():
            videos, model = detected_videos(pathlib.Path(path), skipped.errors)
            found += videos
            models.append(model)
        else:
            others.append(path)
    if others:
        found += inputs.find_inputs(others, skipped)

    # Videos are known by their names from here on.
    names = collections.Counter(source.name for source in found)
    if twice := next((name for name, n in names.items() if n > 1), None):
        raise InputError(
            f"two sources have a video {twice}; search them apart, or pass the folder "
            "above both"
        )
    return found, skipped.errors, list(dict.fromkeys(models))
