"""All readers of user files, each with a function that writes a valid file."""

import io
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import weight_files
from trials import Read, Reader

REPOSITORY = pathlib.Path(__file__).parent.parent.parent


def npy(array: Any, **kwargs: Any) -> bytes:
    """The bytes of a `.npy` file."""
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), **kwargs)
    return out.getvalue()


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
    from wsvad_jax.data import feature_files

    return feature_files.read_features(path)


def _mask_file(folder):
    (folder / "a.npy").write_bytes(npy(np.array([0, 1, 1, 0] * 8)))


def _read_mask(path):
    from wsvad_jax.datasets import ground_truth

    return ground_truth.read_masks(path.parent, [path.stem])


def write_own(folder: pathlib.Path) -> None:
    """A custom folder with all that may lie in it."""
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
    from wsvad_jax.datasets import custom as folders
    from wsvad_jax.detection import input_ground_truth, inputs

    root = next(p for p in path.parents if (p / "features").is_dir())
    if path.suffix == ".json" and path.parent.name == "features":
        features = path.parent / "tf.npy"
        inputs.read_features(inputs.VideoInput("tf", (features,)), 30.0)
    found = folders.load(root)
    for records in found.splits.values():
        list(records)
    if path.name == "test_segments.json":
        for truth in folders.read_ground_truth(path).values():
            input_ground_truth.events_in_seconds(truth, np.arange(5.0))


def _lines(*lines: str) -> Callable[[pathlib.Path], None]:
    return lambda folder: (folder / "a.txt").write_text("\n".join(lines) + "\n")


def _read_lines(name: str) -> Read:
    def read(path):
        from wsvad_jax.data import cards
        from wsvad_jax.datasets import ground_truth
        from wsvad_jax.datasets.ground_truth_alignment import align_ground_truth

        card = {"ucf": cards.UCF, "xd": cards.XD}[name]
        truth = getattr(ground_truth, f"read_{name}")(path)
        for video, item in truth.items():
            if not item.events:
                continue
            align_ground_truth(item, video, (1,), 100, card, strict=False)

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
        from wsvad_jax.datasets.public import PUBLIC_DATASETS

        suffix = ".csv" if name == "xd" else ".txt"
        for names in PUBLIC_DATASETS[name].lists.values():
            file = next(n for n in names if n.endswith(suffix))
            (folder / file).write_text(rows[name] if "rain" in file else tests[name])

    return write


def _read_list_of(name: str) -> Read:
    def read(path):
        from wsvad_jax.data.feature_files import ErrorCollector
        from wsvad_jax.datasets import public

        public.read_lists(name, path.parent, ErrorCollector(skip=True))

    return read


def _video(folder):
    from sample_videos import write_video

    write_video(folder / "a.mp4", count=40)


def _real_videos() -> list[bytes]:
    folder = REPOSITORY.parent / "shared/videos"
    return [p.read_bytes() for p in sorted(folder.glob("*.*"))]


def _read_video(path):
    from wsvad_jax.detection.report.key_frames import key_frames
    from wsvad_jax.extraction import video

    def see(frame):
        return video.crop(video.to_rgb(frame), 32)

    for _ in video.snippets(video.Video(path), preprocess=see):
        pass
    key_frames(path, [0.5])


def write_results(folder: pathlib.Path) -> None:
    """A collected run with the summary of its seeds, and a workdir."""
    from finished import recipe, write_run

    from wsvad_jax.results.runs import collect, find_runs

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
    from wsvad_jax.results import seed_groups, tables
    from wsvad_jax.results.runs import collect, find_runs

    root = next(p for p in path.parents if (p / "run").is_dir())
    runs, summaries, _ = find_runs([root / "results", root / "run"])
    groups = seed_groups.group_by_recipe(
        [r for r in runs if r.source.suffix == ".json"], summaries
    )
    groups += seed_groups.group_by_recipe(
        [r for r in runs if r.source.is_dir()], summaries
    )
    tables.markdown(tables.tables(groups, published=True))
    tables.write_csv(root / "out/report.csv", groups)
    shutil.rmtree(root / "out/collected", ignore_errors=True)
    written = collect(runs[:1], root / "out/collected", summaries)
    assert all(p.is_relative_to(root / "out/collected") for p in written)


def _workdir_config(path):
    from finished import recipe

    from wsvad_jax.evaluation.results import saved_config
    from wsvad_jax.training import run

    root = path.parent
    saved_config(root, ())
    run.check_workdir(root, recipe("dsanet", "ucf"))


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
    from wsvad_jax.results.runs import read_run
    from wsvad_jax.results.seeds import scored_videos

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
    from wsvad_jax.models import MODELS
    from wsvad_jax.weights import trained_model
    from wsvad_jax.weights.model_folder import read_meta

    meta = read_meta(path.parent)
    trained_model.read_card(meta, path.parent)
    trained_model.window_and_feature_size(MODELS["dsanet"], meta, {}, path.parent)
    trained_model.tower_of(meta)


def _history(folder):
    rows = [{"step": i, "loss": 1 / i, "heldout/auc": 0.5} for i in range(1, 9)]
    lines = "".join(json.dumps(r) + "\n" for r in rows)
    (folder / "metrics.jsonl").write_text(lines)


def _read_history(path):
    from wsvad_jax.results.history import read_history
    from wsvad_jax.training.metric_log import MetricWriter

    read_history(path.parent)
    with MetricWriter(path.parent, resume_step=4, tensorboard=False):
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
    "pth": Reader(
        "a.pth",
        weight_files.state("a.pth"),
        weight_files.read_state,
        others=weight_files.other_states,
    ),
    "safetensors": Reader(
        "a.safetensors",
        weight_files.state("a.safetensors"),
        weight_files.read_state,
    ),
    "clip_config": Reader(
        "config.json", weight_files.clip_snapshot, weight_files.read_clip, seconds=20
    ),
    "clip_msgpack": Reader(
        "flax_model.msgpack", weight_files.clip_snapshot, weight_files.read_clip
    ),
    "clip_safetensors": Reader(
        "model.safetensors",
        weight_files.clip_without("flax_model.msgpack"),
        weight_files.read_clip,
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
