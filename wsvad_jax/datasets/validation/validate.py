"""Looks through a custom folder and says what is wrong with it; writes nothing.

Problems stop `prepare`, or would make the numbers of a test wrong; remarks are what a
training will suffer from. Both say what to do.
"""

import contextlib
import hashlib
import itertools
import os
import pathlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from wsvad_jax.data import feature_files
from wsvad_jax.data.crops import FeatureIndex, crop_files, video_of
from wsvad_jax.data.feature_files import ErrorCollector, FeatureFiles
from wsvad_jax.data.records import FRAMES_PER_SNIPPET
from wsvad_jax.datasets import custom as folders
from wsvad_jax.datasets import custom_videos, time_units
from wsvad_jax.datasets.missing_files import beside
from wsvad_jax.datasets.split_lists import (
    SPLITS,
    Row,
    label_of,
    read_list,
    without_doubles,
)
from wsvad_jax.datasets.validation import rules
from wsvad_jax.datasets.validation.report import Findings, Item, counted, some
from wsvad_jax.extraction.decoding.reader import (
    LOOK,
    SLACK,
    VideoReader,
    no_frame_error,
    open_file,
    unexpected_error,
)
from wsvad_jax.extraction.decoding.timestamps import ASSUMED
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.progress import Progress
from wsvad_jax.utils.walk import Passed


def check(
    folder: str | os.PathLike,
    features_folder: str | os.PathLike | None = None,
    *,
    slack: int = 0,
) -> Findings:
    """Looks through a custom folder.

    Args:
      folder: see `data.folder`.
      features_folder: folder of the features where it is not FOLDER/features.
      slack: as `folder.load` takes it.
    """
    folder = pathlib.Path(folder).expanduser().absolute()
    root = pathlib.Path(features_folder or folder / "features").expanduser().absolute()
    found = Findings(folder, root)
    lists = _lists(found)
    _labels(found, lists)
    plan = custom_videos.plan(folder, root, [item.row.video for item in found.items])
    _files(found, plan)
    videos = _features(found, plan)
    videos += _films(found, plan)
    _truth(found, lists["test"], videos, slack)
    _copies(found, plan)
    rules.give(found)
    return found


def _lists(found: Findings) -> dict[str, list[Row]]:
    lists: dict[str, list[Row]] = {}
    for split in SPLITS:
        try:
            lists[split] = read_list(found.folder / f"{split}.csv")
        except InputError as e:
            found.problem("lists", e)
            lists[split] = []
    problems = ErrorCollector(skip=True)
    lists = without_doubles(lists, problems)
    found.take("lists", problems)
    return lists


def _labels(found: Findings, lists: Mapping[str, Sequence[Row]]) -> None:
    try:
        protocol, clip = folders.read_protocol(found.root / "protocol.json")
        found.card = folders.card_of(
            found.folder, found.root, lists["train"], protocol, clip
        )
        path = found.folder / "card.json"
        found.classes_on_card = path.exists() and "classes" in files.read_json(path)
    except InputError as e:
        if lists["train"]:  # else it has been said already
            found.problem("labels", e)
    for split, rows in lists.items():
        for row in rows:
            label: tuple[int, ...] = ()
            try:
                label = label_of(row, found.card) if found.card else ()
            except InputError as e:
                found.problem("labels", e)
            found.items.append(Item(split, row, label))


def _files(found: Findings, plan: custom_videos.Plan) -> None:
    rows = {item.row.video: item.row for item in found.items}
    nothing = not (plan.sources or plan.made or plan.foreign)
    if plan.lost and nothing and (where := beside(found.folder, found.root)):
        found.problem("files", where)
    else:
        for video in plan.lost:
            error = custom_videos.lost(
                found.folder, found.root, rows[video], plan.hints
            )
            found.problem("files", error)
    for error in plan.double.values():
        found.problem("files", error)
    if plan.foreign and plan.missing:
        found.problem(
            "files",
            f"{counted(len(plan.missing), 'video')} without features "
            f"({some(plan.missing)}), and the features of the others have no sidecar "
            "that says how they were made; add the missing ones, or move the features' "
            "folder away to extract all videos",
        )
    found.extract = len(plan.missing) + len(plan.changed)
    _unused(found, plan, rows)
    if plan.changed:
        found.remark(
            "files",
            f"{counted(len(plan.changed), 'video')} changed since the features were "
            f"made, to be extracted again: {some(plan.changed)}",
        )


def _unused(found: Findings, plan: custom_videos.Plan, rows: Mapping[str, Row]) -> None:
    """Says which files are in no list, and which are not read."""
    passed = Passed()
    features = _index(found, passed)
    videos = custom_videos.video_files(found.folder / folders.VIDEOS, passed)
    for error in passed.errors:
        (found.problem if plan.lost else found.remark)("files", error)
    if passed.unread:
        found.remark("files", passed)

    # A file may have several names, and one of them in a list is enough.
    names: dict[str, set[str]] = {}
    for name, path in [(n, p) for n, paths in videos.items() for p in paths]:
        names.setdefault(os.path.realpath(path), set()).add(name)
    for name, path in features.items():
        video = video_of(name, path, features)
        names.setdefault(os.path.realpath(path), set()).add(video)
    listed = {name for part in names.values() if part & rows.keys() for name in part}
    unlisted = (
        {min(part, key=lambda name: (len(name), name)) for part in names.values()}
        - listed
        - rows.keys()
    )
    if unlisted and rows:
        found.remark(
            "files",
            f"{counted(len(unlisted), 'video')} in no list, so not used: "
            f"{some(sorted(unlisted))}",
        )


def _index(found: Findings, passed: Passed | None = None) -> FeatureIndex:
    listed = {item.row.video for item in found.items}
    return folders.feature_files(found.root, listed, passed)


def _features(found: Findings, plan: custom_videos.Plan) -> list[FeatureFiles]:
    """Reads all features; returns those of one width, with their lengths."""
    index, videos = _index(found), []
    later = {*plan.missing, *plan.changed, *plan.lost, *plan.double}
    for item in found.items:
        if item.row.video not in later:
            paths = crop_files(item.row.video, index, found.root)
            videos.append(
                FeatureFiles(item.row.video, item.label, paths, feature_files.OWN)
            )
    problems = ErrorCollector(skip=True)
    try:
        videos = feature_files.check_headers(videos, problems)
    except InputError as e:  # of all of them
        problems(e)
        videos = []
    if found.card:
        stated = found.root / "protocol.json"
        protocol, _ = folders.read_protocol(stated)
        videos = folders.of_stated_crops(stated, videos, problems)
        videos, said, _ = folders.with_sidecars(videos, found.card, problems, protocol)
        for remark in said:
            found.remark("files", remark)
    items = {item.row.video: item for item in found.items}
    for split in SPLITS:
        part = [v for v in videos if items[v.video].split == split]
        kept = {v.video for v in feature_files.keep_usual_crops(part, problems)}
        if split == "test" and found.card and part:
            try:
                folders.check_crop(found.folder, found.card, part)
            except InputError as e:
                problems(e)
        videos = [v for v in videos if v not in part or v.video in kept]
    for remark in _values(videos, problems):
        found.remark("features", remark)
    found.take("features", problems)
    stride = found.card.stride if found.card else FRAMES_PER_SNIPPET
    for video in videos:
        made, item = plan.made.get(video.video), items[video.video]
        item.frames = video.num_frames or video.num_snippets * stride
        item.seconds = made.duration if made else 0.0
        item.crops, found.width = video.num_crops, video.width
    return videos


def _values(videos: Sequence[FeatureFiles], problems: ErrorCollector) -> list[str]:
    remarks: list[str] = []
    with Progress("reading features", len(videos), unit="video") as progress:
        for video in videos:
            for path in video.paths:
                try:
                    feature_files.read(path, remarks)
                except InputError as e:
                    problems(e)
            progress.update()
    return remarks


def _films(found: Findings, plan: custom_videos.Plan) -> list[FeatureFiles]:
    """Opens the videos that are to be extracted; their lengths are as announced.

    Where a length is an estimate, no event can be said to be outside of it.
    """
    stride = found.card.stride if found.card else FRAMES_PER_SNIPPET
    wanted, videos = {*plan.missing, *plan.changed}, []
    films = [item for item in found.items if item.row.video in wanted]
    estimated = []
    with Progress("opening videos", len(films), unit="video") as progress:
        for item in films:
            try:
                promised = announced(plan.sources[item.row.video])
                item.frames, item.seconds, exact = promised
            except InputError as e:
                found.problem("videos", e)
                continue
            finally:
                progress.update()
            if not exact and item.split == "test":
                estimated.append(item.row.video)
            T = -(-item.frames // stride) if exact else 0
            videos.append(FeatureFiles(item.row.video, item.label, (), num_snippets=T))
    if estimated and (found.folder / folders.TRUTH).exists():
        found.remark(
            "truth",
            f"{counted(len(estimated), 'test video')} whose containers state no exact "
            "number of frames: their true times are not checked before extraction: "
            f"{some(estimated)}",
        )
    return videos


def announced(path: pathlib.Path) -> tuple[int, float, bool]:
    """Returns the frames and seconds that a video promises, 0 unknown.

    The third value tells whether the frames are counted, not estimated.

    Raises:
      InputError: not one frame can be read.
    """
    try:
        with open_file(path) as container:
            film = VideoReader(container, path)
            frames = film.frames()
            if next(frames, None) is None:
                raise no_frame_error(path, film.damage)
            if film.pictureless:  # then more packets tell how many hold a picture
                sum(1 for _ in itertools.islice(frames, LOOK))
            return film.expected_frames, film.seconds, _exact(film)
    except InputError:
        raise
    except Exception as e:
        raise unexpected_error(path, e) from e


def _exact(film: VideoReader) -> bool:
    """Whether a film's `promised` is a count of frames rather than an estimate.

    Such is an index of the whole film, without cuts. One of fragments, or of the first
    of joined films, names some of the packets.
    """
    if not film.indexed or film.pictureless or film.empty[film.stream.index]:
        return False
    last = film.stream.index_entries[film.indexed - 1]
    late = (
        film.length + film.clock.start - float(last.timestamp * film.stream.time_base)
    )
    whole = film.indexed == film.expected_frames and not film.clock.useless
    if "avi" in film.formats:  # more behind the index: films were joined
        whole = whole and film.container.size < 1.2 * last.pos
    return whole and abs(late) <= SLACK + 2 / (film.rate or ASSUMED)


def _truth(
    found: Findings, rows: Sequence[Row], videos: Sequence[FeatureFiles], slack: int
) -> None:
    path = found.folder / folders.TRUTH
    abnormal = [i for i in found.items if i.split == "test" and any(i.label)]
    if not path.exists():
        if abnormal:
            found.remark(
                "truth",
                f"there is no {folders.TRUTH}: without the true times of the test "
                "videos' events, results have video_auc but no frame-level auc or ap",
            )
        return
    if not found.card:
        return
    tested = {i.row.video for i in found.items if i.split == "test" and i.label}
    videos = [v for v in videos if v.video in tested and v.num_snippets]
    problems = ErrorCollector(skip=True)
    try:
        truth = folders.read_truth(path)
        clocks = _clocks(found, videos)
        _, said = folders.with_truth(
            videos, rows, truth, found.card, problems, clocks=clocks, slack=slack
        )
        for remark in said:
            found.remark("truth", remark)
    except InputError as e:
        problems(e)
    found.take("truth", problems)


def _clocks(
    found: Findings, videos: Sequence[FeatureFiles]
) -> dict[str, time_units.Clock]:
    """Returns the times of videos without features, as their containers promise them."""
    items, clocks = {i.row.video: i for i in found.items}, {}
    for video in videos:
        item = items[video.video]
        if not video.paths and item.seconds:
            edges = np.linspace(0.0, item.seconds, video.num_snippets + 1)
            clocks[video.video] = time_units.Clock(edges, item.frames)
    return clocks


def _copies(found: Findings, plan: custom_videos.Plan) -> None:
    """Names videos that are the same file, byte for byte."""
    index = _index(found)
    paths: dict[str, tuple[pathlib.Path, ...]] = {}
    for item in found.items:
        video = item.row.video
        if video in plan.sources:
            paths[video] = (plan.sources[video],)
        elif video in plan.foreign or video in plan.made:
            paths[video] = crop_files(video, index, found.root)
    items = {item.row.video: item for item in found.items}
    for names in same_content(paths):
        part = [items[name] for name in names]
        told = ", ".join(f"{i.row.video} ({i.split})" for i in part)
        if len({i.split for i in part}) > 1:
            found.problem(
                "leakage",
                f"the same content is in both lists, so that the test would ask for what "
                f"was trained: {told}; keep it in one",
            )
        elif len({i.row.labels for i in part}) > 1:
            labels = " and ".join(sorted({"+".join(i.row.labels) for i in part}))
            found.problem(
                "leakage", f"the same content is labelled {labels}: {told}; keep one"
            )
        else:
            found.remark("files", f"the same content is there twice: {told}")


def same_content(
    paths: Mapping[str, Sequence[pathlib.Path]],
) -> Iterator[tuple[str, ...]]:
    """Yields groups of names whose files are equal; few files have to be read."""
    sizes: dict[tuple, list[str]] = defaultdict(list)
    for name, parts in paths.items():
        with contextlib.suppress(OSError):  # which is a problem that was named before
            sizes[tuple(os.path.getsize(p) for p in parts)].append(name)
    twins = [names for names in sizes.values() if len(names) > 1]
    with Progress("comparing", sum(map(len, twins)), unit="file") as progress:
        for names in twins:
            groups: dict[tuple, list[str]] = defaultdict(list)
            for name in names:
                with contextlib.suppress(OSError):
                    groups[tuple(_digest(p) for p in paths[name])].append(name)
                progress.update()
            yield from (tuple(g) for g in groups.values() if len(g) > 1)


def _digest(path: pathlib.Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
