"""Public datasets: miniature copies of each released layout, with the real lists."""

import csv
import functools
import json
import os
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest

from wsvad_jax import prepare
from wsvad_jax.data.feature_files import ErrorCollector
from wsvad_jax.data.tfds_builder import open_dataset
from wsvad_jax.datasets import public
from wsvad_jax.utils.errors import InputError

D = 4
COUNTS = {"ucf": (1610, 290), "xd": (3954, 800), "shanghaitech": (238, 199)}


class Release:
    """A miniature release: real lists and truth, features as long as the truth asks."""

    def __init__(self, shared: Callable, name: str, path: pathlib.Path):
        self.name, self.path = name, path
        self.lists = {}
        for split in ("train", "test"):
            with open(shared(f"annotations/{name}_{split}.csv")) as f:
                self.lists[split] = list(csv.reader(f))[1:]
        truth = json.loads(shared(f"annotations/{name}_test_segments.json").read_text())
        self.length = {
            item["video"]: -(-item["frames"] // 16)
            if item.get("frames")
            else 1 + max((e for _, e in item["segments"]), default=16) // 16
            for item in truth
        }
        self.features, self.annotations = path / "features", path / "annotations"
        self.annotations.mkdir(parents=True)
        for file in shared("annotations").glob(f"{name}_*"):
            if not (name != "shanghaitech" and file.suffix == ".json"):
                shutil.copyfile(file, self.annotations / file.name)

    def write(
        self, place: Callable[[str, str, str], list[str]], shape=("T", D)
    ) -> None:
        """Writes files; `place(split, video, label)` names those of a video.

        Videos of one length share one file by hard links, to be quick.
        """
        made: dict[int, pathlib.Path] = {}
        store = self.path / "store"
        store.mkdir()
        for split, rows in self.lists.items():
            for video, label in rows:
                T = self.length.get(video, 3)
                if T not in made:
                    made[T] = store / f"{T}.npy"
                    size = [T if s == "T" else s for s in shape]
                    random = np.random.RandomState(T)
                    values = random.standard_normal(size).astype(np.float16)
                    np.save(made[T], values)
                for file in place(split, video, label):
                    target = self.features / file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.link(made[T], target)

    def load(self, problems: ErrorCollector | None = None, **options):
        return public.load(
            self.name, self.features, self.annotations, problems, **options
        )


@pytest.fixture
def release(shared, tmp_path):
    return lambda name: Release(shared, name, tmp_path / name)


def vadclip_ucf(split, video, label, crops=10):
    """CLASS/NAME__c.npy: ten crops to train with, the fifth to test."""
    normal = "Training" if split == "train" else "Testing"
    folder = f"{normal}_Normal_Videos_Anomaly" if label == "Normal" else label
    return [
        f"{folder}/{video}__{c}.npy"
        for c in (range(crops) if split == "train" else [5])
    ]


def flat_crops(split, video, label):
    return [f"XD{split}ClipFeatures/{video}__{c}.npy" for c in range(2)]


def one_file(split, video, label):
    return [f"{video}.npy"]


def check_counts(found, name, normal):
    train, test = found.splits["train"], found.splits["test"]
    assert (len(train), len(test)) == COUNTS[name]
    assert sum(v.label == (0,) for v in train.videos) == normal[0]
    assert sum(v.label == (0,) for v in test.videos) == normal[1]
    assert all(v.segments for v in test.videos if v.label != (0,))
    assert not any(v.segments for v in test.videos if v.label == (0,))


@pytest.mark.parametrize("crops", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_ucf_as_vadclip_released_it(release, tmp_path, capsys, crops):
    ucf = release("ucf")
    ucf.write(functools.partial(vadclip_ucf, crops=crops))
    arguments = ["ucf", "--features", str(ucf.features), "--data_dir", str(tmp_path)]
    assert prepare.main([*arguments, "--annotations", str(ucf.annotations)]) == 0
    dataset = open_dataset(tmp_path / "ucf" / "1.0.0")
    train, test = dataset.split("train"), dataset.split("test")
    assert (len(train), len(test)) == COUNTS["ucf"]
    assert train[0].features.shape == (crops, 3, D)
    assert dataset.card.test_crop == 0  # the one crop that the test has
    assert len(dataset.card.classes) == 14
    videos = {r.video: r for r in test}
    arson = dataset.card.index("Arson")
    record = videos["Arson011_x264"]
    assert record.segments == ((150, 420, arson), (680, 1267, arson))
    assert record.num_frames == record.num_snippets * 16 == 80 * 16
    assert "train: 1610 videos (800 normal, 810 abnormal)" in capsys.readouterr().out
    info = json.loads((dataset.path / "dataset_info.json").read_text())
    assert "Sultani" in info["citation"] and "crcv.ucf.edu" in str(info["location"])
    assert "not redistributed" in info["redistributionInfo"]["license"]


def test_ucf_one_file_a_video_and_the_official_lists(release):
    ucf = release("ucf")
    ucf.write(one_file)
    for split, name in (("train", "Anomaly_Train.txt"), ("test", "Anomaly_Test.txt")):
        lines = [
            f"{'Training_Normal_Videos_Anomaly' if label == 'Normal' else label}/"
            f"{video}.mp4"
            for video, label in ucf.lists[split]
        ]
        (ucf.annotations / name).write_text("\n".join(lines))
        (ucf.annotations / f"ucf_{split}.csv").unlink()
    found = ucf.load()
    check_counts(found, "ucf", (800, 150))
    assert found.card.test_crop == 0 and found.card.clip == ""
    assert next(iter(found.splits["test"])).features.shape[0] == 1


def test_the_card_s_crop_stays_where_the_test_has_all(shared, tmp_path):
    ucf = Release(shared, "ucf", tmp_path / "ucf")
    ucf.lists = {split: rows[:2] + rows[-2:] for split, rows in ucf.lists.items()}
    ucf.write(lambda split, video, label: [f"{video}__{c}.npy" for c in range(10)])
    found = ucf.load(ErrorCollector(skip=True))
    assert found.card.test_crop == 5 and found.remarks == []
    assert next(iter(found.splits["test"])).features.shape[0] == 10


def test_a_missing_crop_is_named(release):
    campus = release("shanghaitech")
    campus.write(lambda split, video, label: [f"{video}__{c}.npy" for c in range(3)])
    video = campus.lists["train"][7][0]
    (campus.features / f"{video}__1.npy").unlink()
    with pytest.raises(InputError, match=f"the feature file {video}__1.npy is missing"):
        campus.load()


def test_vadclip_s_own_lists(release):
    ucf = release("ucf")
    ucf.write(one_file)
    for split, name, crops in (
        ("train", "ucf_CLIP_rgb.csv", range(10)),
        ("test", "ucf_CLIP_rgbtest.csv", [5]),
    ):
        rows = [
            f"/home/x/UCFClipFeatures/{label}/{video}__{c}.npy,{label}"
            for video, label in ucf.lists[split]
            for c in crops
        ]
        (ucf.annotations / name).write_text("\n".join(["path,label", *rows]))
        (ucf.annotations / f"ucf_{split}.csv").unlink()
    check_counts(ucf.load(), "ucf", (800, 150))


def test_xd(release):
    xd = release("xd")
    xd.write(flat_crops)
    found = xd.load()
    check_counts(found, "xd", (2049, 300))
    assert found.card.test_crop == 0
    videos = {v.video: v for v in found.splits["test"].videos}
    several = videos["Bad.Boys.1995__#01-11-55_01-12-40_label_G-B2-B6"]
    names = [found.card.class_names[c] for c in several.label]
    assert names == ["B2", "B6", "G"]
    assert (582, 810, found.card.index("G")) in several.segments
    # Real data: a video whose name says B4 has an event of B1.
    assert len(found.remarks) == 1 and "Ip.Man.2008__#01-40-37" in found.remarks[0]
    record = next(iter(found.splits["train"]))
    assert record.features.shape == (2, 3, D)


@pytest.mark.parametrize("shape", [("T", 10, D), (10, "T", D)])
def test_shanghaitech_i3d(release, shape):
    """Ten snippets and ten crops look alike; the other files tell which is which."""
    campus = release("shanghaitech")
    campus.length[next(v for v, _ in campus.lists["train"])] = 10
    campus.write(lambda split, video, label: [f"{video}_i3d.npy"], shape)
    found = campus.load()
    check_counts(found, "shanghaitech", (175, 155))
    for record, video in zip(
        found.splits["test"], [v for v, _ in campus.lists["test"]], strict=True
    ):
        assert record.features.shape == (10, campus.length[video], D)
    assert {r.features.shape[0] for r in found.splits["train"]} == {10}


def test_shanghaitech_masks_and_text_lists(release):
    campus = release("shanghaitech")
    campus.write(one_file)
    truth_file = campus.annotations / "shanghaitech_test_segments.json"
    truth = json.loads(truth_file.read_text())
    truth_file.unlink()
    (campus.annotations / "test_frame_mask").mkdir()
    for item in truth:
        if item["label"] == "Anomaly":
            mask = np.zeros(item["frames"], np.int8)
            for start, end in item["segments"]:
                mask[start:end] = 1
            np.save(campus.annotations / "test_frame_mask" / item["video"], mask)
    for split, name in (("train", "SH_Train.txt"), ("test", "SH_Test.txt")):
        (campus.annotations / name).write_text(
            "\n".join(video for video, _ in campus.lists[split])
        )
        (campus.annotations / f"shanghaitech_{split}.csv").unlink()
    found = campus.load()
    check_counts(found, "shanghaitech", (175, 155))
    assert found.splits["test"].videos[0].segments == ((86, 374, 1),)


@pytest.fixture
def campus(release):
    """The smallest dataset, to bend."""
    small = release("shanghaitech")
    small.write(one_file)
    return small


def test_missing_and_corrupt_files_are_named_or_skipped(campus, tmp_path):
    train, test = campus.lists["train"][5][0], campus.lists["test"][50][0]
    (campus.features / f"{train}.npy").unlink()
    (campus.features / f"{test}.npy").unlink()
    (campus.features / f"{test}.npy").write_bytes(b"")
    with pytest.raises(InputError, match=f"the feature file {train}.npy is missing"):
        campus.load()
    problems = ErrorCollector(skip=True)
    found = campus.load(problems)
    assert [len(s) for s in found.splits.values()] == [237, 198]
    assert len(problems.errors) == 2
    arguments = ["shanghaitech", "--features", str(campus.features), "--skip-bad"]
    arguments += ["--annotations", str(campus.annotations), "--data_dir", str(tmp_path)]
    assert prepare.main(arguments) == 0
    report = (tmp_path / "shanghaitech" / "1.0.0" / "report.txt").read_text()
    assert train in report and f"{test}.npy: the file is empty" in report


def rewrite(path, change):
    path.write_text(change(path.read_text()))


def short_list(campus):
    rewrite(
        campus.annotations / "shanghaitech_train.csv",
        lambda text: "\n".join(text.splitlines()[:-1]),
    )


def changed_label(campus):
    rewrite(
        campus.annotations / "shanghaitech_test.csv",
        lambda text: text.replace("01_0015,Anomaly", "01_0015,Normal"),
    )


def no_such_label(campus):
    rewrite(
        campus.annotations / "shanghaitech_test.csv",
        lambda text: text.replace("01_0015,Anomaly", "01_0015,Odd"),
    )


def no_list(campus):
    (campus.annotations / "shanghaitech_test.csv").unlink()


def no_truth(campus):
    (campus.annotations / "shanghaitech_test_segments.json").unlink()


def truth_of_another(campus):
    rewrite(
        campus.annotations / "shanghaitech_test_segments.json",
        lambda text: text.replace('"01_0015"', '"99_0015"'),
    )


def other_length(campus):
    path = campus.features / "01_0015.npy"
    path.unlink()
    np.save(path, np.ones((26, D), np.float16))


def no_features(campus):
    shutil.rmtree(campus.features)
    campus.features.mkdir()


def three_axes(campus):
    path = campus.features / "01_0015.npy"
    path.unlink()
    np.save(path, np.ones((28, 7, D), np.float16))


def other_width(campus):
    path = campus.features / "01_0015.npy"
    path.unlink()
    np.save(path, np.ones((28, D + 1), np.float16))


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (short_list, "train.csv: 237 train videos; shanghaitech has 238"),
        (changed_label, "video 01_0015 is labelled Anomaly, but Normal in the test"),
        (no_such_label, "video 01_0015 has the label 'Odd'; expected Normal, Anomaly"),
        (no_list, "expected one of shanghaitech_test.csv, SH_Test.txt, found none"),
        (no_truth, "expected one of shanghaitech_test_segments.json, test_frame_mask"),
        (truth_of_another, "video 99_0015 is not in the test list"),
        (other_length, "video 01_0015 is 433 frames long, .* 416 frames long"),
        (no_features, "none of its 238 videos has a feature file"),
        (three_axes, "01_0015.npy: .* are 28 crops of 7 snippets or 28 snippets of 7"),
        (other_width, "01_0015.npy: features 5 wide; expected 4"),
    ],
)
def test_bad_release(campus, bend, message):
    bend(campus)
    with pytest.raises(InputError, match=message) as error:
        campus.load()
    assert "\n" not in str(error.value)


def test_slack_of_one_snippet(campus):
    other_length(campus)
    found = campus.load(slack=1)
    assert found.splits["test"].videos[0].segments == ((86, 374, 1),)
    assert len(found.remarks) == 1 and "433 frames" in found.remarks[0]


@pytest.mark.parametrize(
    ("label", "classes"),
    [("A", ("A",)), ("B2-0-0", ("B2",)), ("G-B2-B6", ("G", "B2", "B6")), ("G", ("G",))],
)
def test_xd_labels(label, classes):
    assert (
        public.class_names_of_label("xd", f"film__#1_label_{label}", label, "l:1")
        == classes
    )


@pytest.mark.parametrize("label", ["B3-0-0", "0-0-0", "", "B1B2", "b1-0-0"])
def test_xd_labels_that_cannot_be_read(label):
    with pytest.raises(InputError, match="l:1: video v.* expected A, B1, B2, B4"):
        public.class_names_of_label("xd", f"v__#1_label_{label}", label, "l:1")


def test_xd_label_that_the_name_contradicts():
    with pytest.raises(InputError, match="its name says B1-0-0"):
        public.class_names_of_label("xd", "v__#1_label_B1-0-0", "B2-0-0", "l:1")
