"""MSAD and UBnormal: miniature copies of their released lists, truth and features."""

import pathlib

import numpy as np
import pytest

from wsvad_jax import prepare
from wsvad_jax.data.tfds_builder import open_dataset
from wsvad_jax.datasets import ground_truth, public
from wsvad_jax.utils.errors import InputError

# Number of videos per class in the released training and test lists.
MSAD = {
    "Assault": (7, 8),
    "Explosion": (7, 8),
    "Fighting": (7, 6),
    "Fire": (13, 12),
    "Object_falling": (12, 10),
    "People_falling": (21, 22),
    "Robbery": (15, 14),
    "Shooting": (8, 9),
    "Traffic_accident": (19, 20),
    "Vandalism": (6, 6),
    "Water_incident": (5, 5),
}
HEADER = "name,scenario,total frames,starting frame of anomaly,ending frame of anomaly"


def features(path: pathlib.Path, T: int, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.RandomState(T).rand(T, width).astype(np.float16))


@pytest.fixture
def msad(tmp_path):
    """Writes MSAD as released: lists of I3D files, and the table of its events."""
    root, lists = tmp_path / "features", tmp_path / "lists"
    lists.mkdir()
    train, test, table = [], [], [HEADER]
    for name, (in_train, in_test) in MSAD.items():
        for i in range(in_train + in_test):
            (train if i < in_train else test).append(f"{name}_{i}")
            table.append(f"{name}_{i},shop,64,17,32")
    train += [f"MSAD_normal_shop_{i}" for i in range(360)]
    test += [f"MSAD_normal_testing_{i}" for i in range(120)]

    for rows, file in ((train, "msad-i3d.list"), (test, "msad-i3d-test.list")):
        folder = "/scratch/MSAD-I3D-WS/MSAD-I3D-" + file
        paths = [f"{folder}/{video}_i3d.npy" for video in rows]
        (lists / file).write_text("\n".join(paths) + "\n")
        for video in rows:
            features(root / file / f"{video}_i3d.npy", 4, 6)
    (lists / "anomaly_annotation.csv").write_text("\n".join(table) + "\n")
    return root, lists


@pytest.fixture
def ubnormal(tmp_path):
    """Writes UBnormal's lists of names, and the tracks of its abnormal test videos."""
    root, lists = tmp_path / "features", tmp_path / "lists"
    counts = {"training": (186, 82), "test": (53, 158), "validation": (26, 38)}
    start = 0
    for split, numbers in counts.items():
        for kind, number in zip(("normal", "abnormal"), numbers, strict=True):
            names = [f"{kind}_scene_1_scenario_{start + i}" for i in range(number)]
            start += number
            file = lists / f"{kind}_{split}_video_names.txt"
            file.parent.mkdir(exist_ok=True)
            file.write_text("\n".join(names))
            for name in names:
                features(root / f"{name}.npy", 4, 6)
            if kind == "abnormal" and split == "test":
                folder = lists / "Scene1" / "annotations"
                folder.mkdir(parents=True)
                for name in names:
                    (folder / f"{name}_tracks.txt").write_text(
                        "1.0,8.0,15.0\n2,12,20\n3,40,45\n"
                    )
    return root, lists


def test_msad_is_prepared_from_its_released_lists(msad, tmp_path, capsys):
    root, lists = msad
    arguments = ["msad", "--features", str(root), "--annotations", str(lists)]
    assert prepare.main([*arguments, "--data_dir", str(tmp_path / "data")]) == 0
    printed = capsys.readouterr().out
    assert "train: 480 videos (360 normal, 120 abnormal)" in printed
    assert "test: 240 videos (120 normal, 120 abnormal)" in printed

    dataset = open_dataset(tmp_path / "data" / "msad" / "1.0.0")
    videos = {record.video: record for record in dataset.split("test")}
    fire = dataset.card.index("Fire")
    # Frames 17 to 32, counted from 1, are the second snippet.
    assert videos["Fire_13"].segments == ((16, 32, fire),)
    assert videos["MSAD_normal_testing_3"].segments == ()
    assert dataset.card.class_names[1:] == tuple(MSAD)


def test_ubnormal_is_prepared_from_its_released_lists(ubnormal, tmp_path, capsys):
    root, lists = ubnormal
    arguments = ["ubnormal", "--features", str(root), "--annotations", str(lists)]
    assert prepare.main([*arguments, "--data_dir", str(tmp_path / "data")]) == 0
    printed = capsys.readouterr().out
    assert "train: 268 videos (186 normal, 82 abnormal)" in printed
    assert "test: 211 videos (53 normal, 158 abnormal)" in printed

    dataset = open_dataset(tmp_path / "data" / "ubnormal" / "1.0.0")
    abnormal = [r for r in dataset.split("test") if r.segments]
    assert len(abnormal) == 158
    # Tracks that overlap are one event; their last frame belongs to them.
    assert abnormal[0].segments == ((8, 21, 1), (40, 46, 1))


def test_a_list_that_is_not_whole_is_refused(msad, ubnormal):
    root, lists = msad
    short = lists / "msad-i3d.list"
    short.write_text("\n".join(short.read_text().splitlines()[1:]))
    with pytest.raises(InputError, match=r"479 train videos; msad has 480"):
        public.load("msad", root, lists)

    (lists / "normal_test_video_names.txt").unlink()
    with pytest.raises(InputError, match="normal_test_video_names.txt with abnormal"):
        public.load("ubnormal", root, lists)


def test_an_unknown_name_in_a_list_is_refused(msad):
    root, lists = msad
    path = lists / "msad-i3d.list"
    path.write_text(path.read_text().replace("Fire_0_i3d", "Fires_0_i3d"))
    with pytest.raises(InputError, match=r"Fires_0 has the label 'Fires'"):
        public.load("msad", root, lists)


def test_a_missing_track_file_is_named(ubnormal):
    root, lists = ubnormal
    path = next(lists.rglob("*_tracks.txt"))
    path.unlink()
    with pytest.raises(InputError, match=path.name):
        public.load("ubnormal", root, lists)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Fire_1,shop,64,17,65", "ends at 65 of 64 frames"),
        ("Fire_1,shop,64,,", "expected whole frames"),
        ("Fire_1,shop,64,20,10", "expected 0 <= start < end"),
        ("Fire_1,shop", "expected whole frames"),
        ("Fire_1,shop,64,1,9\nFire_1,shop,64,1,9", "is there twice"),
    ],
)
def test_wrong_lines_of_msads_table_are_named(tmp_path, line, message):
    path = tmp_path / "anomaly_annotation.csv"
    path.write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(InputError, match=message):
        ground_truth.read_msad(path)


def test_a_table_without_msads_columns_is_refused(tmp_path):
    path = tmp_path / "anomaly_annotation.csv"
    path.write_text("name,start,end\nFire_1,1,2\n")
    with pytest.raises(InputError, match="no column 'total frames'"):
        ground_truth.read_msad(path)


@pytest.mark.parametrize("text", ["", "1,2\n", "a,b,c\n", "1,9,3\n"])
def test_wrong_tracks_are_refused(tmp_path, text):
    (tmp_path / "abnormal_a_tracks.txt").write_text(text)
    with pytest.raises(InputError, match="abnormal_a_tracks"):
        ground_truth.read_ubnormal_tracks(tmp_path, ["abnormal_a"])
