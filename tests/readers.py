"""Everything that is read from files of others, and bytes to try it with.

A `Reader` writes a folder that is right, and reads it with one file replaced. Whatever
that file holds, reading ends, soon and with little memory, in a value or in an
`InputError` of one line that names the file.
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import random
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from wsvad_jax.errors import InputError

Read = Callable[[pathlib.Path], Any]
REPOSITORY = pathlib.Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Reader:
    """One kind of file: a folder that is right, and what reads it."""

    file: str  # which one is replaced, relative to the folder
    write: Callable[[pathlib.Path], Any]  # the folder
    read: Read  # given the file's path
    seconds: float = 5.0  # that one input may take
    others: Callable[[], list[bytes]] = list  # further contents that are right


class Trial:
    """A reader's folder, in which one file after another is tried."""

    def __init__(self, reader: Reader, folder: pathlib.Path):
        self.reader, self.path = reader, folder / reader.file
        reader.write(folder)
        self.samples = [self.path.read_bytes(), *reader.others()]
        reader.read(self.path)  # imports what is imported on first use
        self.slowest = 0.0

    def __call__(self, data: bytes) -> bool:
        """Whether `data` is accepted; raises AssertionError where rules are broken."""
        self.path.write_bytes(data)
        start = time.process_time()  # not of a busy machine
        try:
            with open(os.devnull, "w") as nothing, contextlib.redirect_stderr(nothing):
                self.reader.read(self.path)
        except InputError as e:
            name = self.path.name
            named = (name, str(self.path.parent), str(self.path.with_suffix("")))
            # A truth that lacks a video is named by the video.
            whose = any(part in str(e) for part in named) or "video " in str(e)
            assert whose, f"{e} doesn't name {name}"
            assert "\n" not in str(e) and len(str(e)) < 11000, len(str(e))
            return False
        finally:
            took = time.process_time() - start
            self.slowest = max(self.slowest, took)
        assert took < self.reader.seconds, f"took {took:.1f} s"
        return True


# What readers stumble over: sizes, signs, quotes, nesting, markup, foreign encodings.
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 1e308, float("nan"), float("inf"), 10**25, -(2**63)),
    *("", " ", "\0", "\ud800", "a\nb", "../../x", "/etc/passwd", "<script>alert(1)"),
    *("nan", "é" * 300, [], {}, [[]], {"": None}, [[0, 1]] * 3, ["a", 1, None]),
)
PIECES = (
    *(b"\0", b"\xff" * 8, b"\x80", b"-1", b"9" * 30, b"1e999", b"NaN", b'"', b"'"),
    *(
        b",",
        b";",
        b"\r",
        b"\n\n",
        b"[",
        b"{",
        b"}",
        b"(",
        b")",
        b"../",
        b"\xef\xbb\xbf",
    ),
    *(b"<script>", b"\\ud800", b"\xff\xfe", b"99999999999999999999", b"[" * 3000),
    *(b"9" * 5000, b"[" * 900 + b"0" + b"]" * 900, b'{"a":' * 300 + b"0" + b"}" * 300),
)


def mutated(data: bytes, r: random.Random) -> bytes:
    """`data` with a few things changed: a value of its JSON, or some of its bytes."""
    if r.random() < 0.5:
        with contextlib.suppress(ValueError, RecursionError):
            value = [json.loads(data)]
            for _ in range(r.choice((1, 1, 2, 4))):
                _change(value, r)
            return json.dumps(value[0] if value else None).encode()
    found = bytearray(data)
    for _ in range(r.choice((1, 1, 2, 5, 20))):
        at, n = r.randrange(len(found) + 1), r.choice((1, 2, 4, 8, 64, 1000))
        change = r.randrange(6)
        if change == 0 and at < len(found):
            found[at] ^= 1 << r.randrange(8)
        elif change == 1:
            del found[at : at + n]
        elif change == 2:
            found[at:at] = r.choice(PIECES)
        elif change == 3:
            found[at : at + n] = r.randbytes(min(n, 8))
        elif change == 4:
            found[at:at] = found[max(at - n, 0) : at]
        elif r.random() < 0.2:
            del found[at:]
    return bytes(found)


def _change(value: Any, r: random.Random) -> None:
    """Replaces, removes or doubles a node somewhere below `value`, a list or a dict."""
    while True:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        if not keys:
            return
        key = r.choice(keys)
        child = value[key]
        if isinstance(child, list | dict) and child and r.random() < 0.75:
            value = child
            continue
        change = r.randrange(8)
        if change == 0:
            del value[key]
        elif change == 1 and isinstance(value, list):
            value.append(child)
        elif change == 2 and isinstance(value, dict):
            value[r.choice(("x", "", "name", str(key).upper()))] = value.pop(key)
        elif change == 3 and isinstance(child, int | float):
            value[key] = r.choice((-child, 10 * child, 10**6 * child, 10**400))
        else:
            value[key] = r.choice(VALUES)
        return


def npy(array: Any, **kwargs: Any) -> bytes:
    """The bytes of a `.npy` file."""
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), **kwargs)
    return out.getvalue()


# Each kind: what writes the folder, and what reads it.


def _feature_file(folder):
    (folder / "a.npy").write_bytes(npy(np.ones((4, 6), np.float32)))


def _other_arrays() -> list[bytes]:
    return [
        npy(np.ones((2, 3, 6), np.float16)),
        npy(np.asfortranarray(np.ones((4, 6)))),
        npy(np.arange(8), version=(2, 0)),
        npy(np.ones((4, 6), ">f4"), version=(3, 0)),
        npy(np.array([{"a": 1}], object)),
    ]


def _read_features(path):
    from wsvad_jax.data import features

    return features.read(path)


def _mask_file(folder):
    (folder / "a.npy").write_bytes(npy(np.array([0, 1, 1, 0] * 8)))


def _read_mask(path):
    from wsvad_jax.data import annotations

    return annotations.read_masks(path.parent, [path.stem])


def write_own(folder: pathlib.Path) -> None:
    """A folder of one's own with all that may lie in it."""
    from wsvad_jax.data.sidecar import Sidecar

    rows = {"train": "n,Normal f,Fire m,Fire+Fight", "test": "tn,Normal tf,Fire"}
    (folder / "features").mkdir(parents=True)
    for split, text in rows.items():
        lines = ["video,label", *text.split()]
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
        for line in lines[1:]:
            name = line.partition(",")[0]
            array = npy(np.ones((4, 6), np.float32))
            (folder / f"features/{name}.npy").write_bytes(array)
    card = {
        "name": "mine",
        "classes": [
            {"name": "Normal", "prompts": ["normal"]},
            {"name": "Fire", "prompts": ["a fire", "flames"]},
            {"name": "Fight"},
        ],
        "normal": "Normal",
        "stride": 16,
        "test_crop": 0,
        "clip": "",
    }
    (folder / "card.json").write_text(json.dumps(card))
    truth = [
        {"video": "tn", "label": "Normal", "segments": [], "frames": 64},
        {"video": "tf", "segments": [[16, 32], [40, 64, "Fire"]]},
    ]
    (folder / "test_segments.json").write_text(json.dumps(truth))
    made = {"encoder": "tower", "stride": 16, "crops": 1, "clip": "a/b"}
    (folder / "features/protocol.json").write_text(json.dumps(made))
    times = tuple(16 * t / 30 for t in range(4))
    side = Sidecar(
        *("tf.mp4", "tower", "0" * 16, 16, "middle", 1, "stretch", 224, 30.0, 61),
        *(times, 61 / 30, "", {"size": 9, "hash": "00"}),
    )
    side.write(folder / "features/tf.json")


def _read_own(path: pathlib.Path) -> None:
    """What `prepare` does before it writes, and what `detect` does with the rest."""
    from wsvad_jax import sources
    from wsvad_jax.data import folder as folders

    root = next(p for p in path.parents if (p / "features").is_dir())
    if path.suffix == ".json" and path.parent.name == "features":
        features = path.parent / "tf.npy"
        sources.read(sources.Source("tf", (features,)), 30.0)
    found = folders.load(root)
    for records in found.splits.values():
        list(records)
    if path.name == "test_segments.json":
        for truth in folders.read_truth(path).values():
            sources.true_events(truth, np.arange(5.0))


def _lines(*lines: str) -> Callable[[pathlib.Path], None]:
    return lambda folder: (folder / "a.txt").write_text("\n".join(lines) + "\n")


def _read_lines(name: str) -> Read:
    def read(path):
        from wsvad_jax.data import annotations, cards

        card = {"ucf": cards.UCF, "xd": cards.XD}[name]
        truth = getattr(annotations, f"read_{name}")(path)
        for video, item in truth.items():
            if not item.events:
                continue
            annotations.settle(item, video, (1,), 100, card, strict=False)

    return read


def _list_of(name: str) -> Callable[[pathlib.Path], None]:
    rows = {
        "ucf": "Abuse/Abuse001_x264.mp4\nTraining_Normal_Videos_Anomaly/N_x264.mp4\n",
        "xd": "video,label\nv=a_label_B1-0-0__0.npy,B1-0-0\nv=b_label_A__0.npy,A\n",
        "shanghaitech": "01_001.npy\n01_0014.npy\n",
    }

    tests = {
        "ucf": "Abuse/Abuse002_x264.mp4\n",
        "xd": "video,label\nv=c_label_A,A\n",
        "shanghaitech": "01_002.npy\n",
    }

    def write(folder):
        from wsvad_jax.data.public import PUBLIC

        suffix = ".csv" if name == "xd" else ".txt"
        for names in PUBLIC[name].lists.values():
            file = next(n for n in names if n.endswith(suffix))
            (folder / file).write_text(rows[name] if "rain" in file else tests[name])

    return write


def _read_list_of(name: str) -> Read:
    def read(path):
        from wsvad_jax.data import public
        from wsvad_jax.data.features import Problems

        public.read_lists(name, path.parent, Problems(skip=True))

    return read


def _state(folder):
    from wsvad_jax.torch_files import write_state

    random = np.random.RandomState(0)
    shapes = {"fc1": (8, 6), "fc2": (4, 8), "fc3": (1, 4)}
    state = {}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = random.standard_normal(shape).astype(np.float32)
        state[f"{name}.bias"] = np.zeros(shape[0], np.float32)
    write_state(folder / "a.pth", state)
    write_state(folder / "a.safetensors", state)


def _other_states() -> list[bytes]:
    """What PyTorch saves beside plain tensors."""
    import torch

    eye = torch.eye(3)
    values: list[Any] = [
        {"state_dict": {"module.fc1.weight": eye, "module.fc1.bias": eye[0]}},
        {"fc1.weight": eye.to_sparse(), "fc1.bias": eye[0]},
        {"fc1.weight": torch.quantize_per_tensor(eye, 0.1, 0, torch.qint8)},
        {"fc1.weight": torch.empty(3, device="meta")},
        {"fc1.weight": eye.to(torch.float8_e4m3fn), "fc1.bias": eye},
        {"fc1.weight": torch.complex(eye, eye).conj()},
        {"fc1.weight": torch.nested.nested_tensor([eye, eye[:1]])},
        {1: eye},
        [eye],
    ]
    found = []
    for value in values:
        out = io.BytesIO()
        torch.save(value, out)
        found.append(out.getvalue())
    return found


def _read_state(path):
    from wsvad_jax import weights
    from wsvad_jax.torch_files import read_state

    state = read_state(path)
    weights.identify(state)
    weights.import_state("mil_ranking", state, source=str(path))


def _clip_snapshot(folder):
    from films import write_clip

    from wsvad_jax.clip import load

    write_clip(folder)
    s = load.load(folder)
    load.save_snapshot(folder, s.text, s.vision, s.params, weights="safetensors")


def _clip_without(*names: str) -> Callable[[pathlib.Path], None]:
    def write(folder):
        _clip_snapshot(folder)
        for name in names:
            (folder / name).unlink()

    return write


def _read_clip(path):
    from wsvad_jax.clip import load

    load.load(path.parent)


def _video(folder):
    from films import write_video

    write_video(folder / "a.mp4", count=40)


def _real_videos() -> list[bytes]:
    folder = REPOSITORY.parent / "shared/videos"
    return [p.read_bytes() for p in sorted(folder.glob("*.*"))]


def _read_video(path):
    from wsvad_jax.data import video
    from wsvad_jax.data.keyframes import key_frames

    def see(frame):
        return video.crop(video.rgb(frame), 32)

    for _ in video.snippets(video.Video(path), see=see):
        pass
    key_frames(path, [0.5])


def write_results(folder: pathlib.Path) -> None:
    """A collected run with the summary of its seeds, and a workdir."""
    from finished import recipe, write_run

    from wsvad_jax.runs import collect, find_runs

    config = recipe("dsanet", "ucf")
    write_run(folder / "run", config)
    runs, _, _ = find_runs([folder / "run"])
    (path,) = collect(runs, folder / "results")
    values = runs[0].values()
    metrics = {
        k: {"mean": v, "std": None, "seeds": [v], "interval": [0.1, 0.2]}
        for k, v in values.items()
    }
    summary = {"dataset": "small", "model": "dsanet", "protocol": "clean"}
    summary |= {"seeds": [0], "metrics": metrics, "step": [100]}
    path.with_name("summary.json").write_text(json.dumps(summary))


def _report(path: pathlib.Path) -> None:
    from wsvad_jax import report
    from wsvad_jax.runs import collect, find_runs

    root = next(p for p in path.parents if (p / "run").is_dir())
    runs, summaries, _ = find_runs([root / "results", root / "run"])
    groups = report.group([r for r in runs if r.source.suffix == ".json"], summaries)
    groups += report.group([r for r in runs if r.source.is_dir()], summaries)
    report.markdown(report.tables(groups, published=True))
    report.write_csv(root / "out/report.csv", groups)
    shutil.rmtree(root / "out/collected", ignore_errors=True)
    written = collect(runs[:1], root / "out/collected", summaries)
    assert all(p.is_relative_to(root / "out/collected") for p in written)


def _workdir_config(path):
    from finished import recipe

    from wsvad_jax import train
    from wsvad_jax.evaluate import saved_config

    root = path.parent
    saved_config(root, ())
    train.check_workdir(root, recipe("dsanet", "ucf"))


def _dataset(folder):
    from finished import write_small

    path = write_small(folder / "made")
    shutil.move(path, folder / "small")


def _read_dataset(path):
    from wsvad_jax.data.dataset import open_dataset

    dataset = open_dataset(path.parent)
    for name in dataset.splits:
        assert all(e.num_snippets > 0 for e in dataset.split(name).entries)


def _scores(folder):
    from finished import recipe, write_run

    _dataset(folder)
    write_run(folder / "run", recipe("dsanet", str(folder / "small")))


def _read_scores(path):
    from wsvad_jax.data.dataset import open_dataset
    from wsvad_jax.runs import read_run
    from wsvad_jax.study import scored_videos

    root = path.parent.parent
    scored_videos(read_run(root / "run"), open_dataset(root / "small"))


def _meta(folder):
    from finished import CARD, recipe

    config = recipe("dsanet", "ucf").to_dict()
    meta = {
        "model": "dsanet",
        "config": config,
        "card": CARD.to_json(),
        "features": {"encoder": "a@0123456789ab", "stride": 16, "crops": 1},
        "step": 60,
        "selection": "last weights",
        "length": 32,
        "width": 16,
        "tower": {"clip": "random", "hash": "0123456789ab"},
        "digest": "00",
    }
    (folder / "meta.json").write_text(json.dumps(meta))


def _read_meta(path):
    from wsvad_jax import trained
    from wsvad_jax.checkpoint import read_meta

    meta = read_meta(path.parent)
    trained.card_of(meta, path.parent)
    trained.sizes(meta, {}, path.parent)
    trained.tower_of(meta)


def _history(folder):
    rows = [{"step": i, "loss": 1 / i, "heldout/auc": 0.5} for i in range(1, 9)]
    lines = "".join(json.dumps(r) + "\n" for r in rows)
    (folder / "metrics.jsonl").write_text(lines)


def _read_history(path):
    from wsvad_jax.writer import Writer, read_history

    read_history(path.parent)
    with Writer(path.parent, resume_step=4, tensorboard=False):
        pass


READERS: dict[str, Reader] = {
    "npy": Reader("a.npy", _feature_file, _read_features, others=_other_arrays),
    "mask": Reader("a.npy", _mask_file, _read_mask, others=_other_arrays),
    "csv": Reader("train.csv", write_own, _read_own),
    "card": Reader("card.json", write_own, _read_own),
    "truth": Reader("test_segments.json", write_own, _read_own),
    "protocol": Reader("features/protocol.json", write_own, _read_own),
    "sidecar": Reader("features/tf.json", write_own, _read_own),
    "ucf": Reader(
        "a.txt",
        _lines("Abuse028_x264.mp4 Abuse 165 240 -1 -1", "N.mp4 Normal -1 -1 -1 -1"),
        _read_lines("ucf"),
    ),
    "xd": Reader(
        "a.txt",
        _lines("v=a__#1_label_B2-0-0 B2 1 60 G 70 90", "b 3 20 80 100", "c"),
        _read_lines("xd"),
    ),
    "ucf_list": Reader("Anomaly_Train.txt", _list_of("ucf"), _read_list_of("ucf")),
    "xd_list": Reader("xd_train.csv", _list_of("xd"), _read_list_of("xd")),
    "shanghaitech_list": Reader(
        "SH_Train.txt", _list_of("shanghaitech"), _read_list_of("shanghaitech")
    ),
    "pth": Reader("a.pth", _state, _read_state, others=_other_states),
    "safetensors": Reader("a.safetensors", _state, _read_state),
    "clip_config": Reader("config.json", _clip_snapshot, _read_clip, seconds=20),
    "clip_msgpack": Reader("flax_model.msgpack", _clip_snapshot, _read_clip),
    "clip_safetensors": Reader(
        "model.safetensors", _clip_without("flax_model.msgpack"), _read_clip
    ),
    "video": Reader("a.mp4", _video, _read_video, seconds=60),
    "real_video": Reader("a.mp4", _video, _read_video, 60, _real_videos),
    "results": Reader("results/small/dsanet/clean/seed0.json", write_results, _report),
    "summary": Reader(
        "results/small/dsanet/clean/summary.json", write_results, _report
    ),
    "workdir_results": Reader("run/results.json", write_results, _report),
    "workdir_config": Reader("run/config.json", write_results, _report),
    "resumed_config": Reader("run/config.json", write_results, _workdir_config),
    "scores": Reader("run/scores.npz", _scores, _read_scores),
    "meta": Reader("meta.json", _meta, _read_meta),
    "history": Reader("metrics.jsonl", _history, _read_history),
    "dataset_index": Reader("small/index.json", _dataset, _read_dataset),
    "dataset_metadata": Reader("small/metadata.json", _dataset, _read_dataset),
}


def inputs(trial: Trial, seed: int, count: int) -> Iterator[bytes]:
    """`count` mutations of the contents that are right."""
    r = random.Random(seed)
    for _ in range(count):
        yield mutated(r.choice(trial.samples), r)
