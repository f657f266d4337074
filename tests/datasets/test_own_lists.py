"""Labels from folder names, random splits, and lists with other columns."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest

from wsvad_jax import prepare
from wsvad_jax.data.tfds_builder import open_dataset
from wsvad_jax.datasets import own_lists, random_split
from wsvad_jax.datasets.list_options import ListOptions
from wsvad_jax.datasets.split_lists import ListEntry
from wsvad_jax.utils.errors import InputError

WIDTH = 6
FOLDERS = {"Fight": 8, "Normal": 12}


def write_features(folder, counts=None, seed=0):
    """Writes features/CLASS/N.npy, no two of them alike."""
    random = np.random.RandomState(seed)
    for label, count in (counts or FOLDERS).items():
        (folder / "features" / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            values = random.standard_normal((4, WIDTH)).astype(np.float32)
            np.save(folder / "features" / label / f"{i}.npy", values)


@pytest.fixture
def own(tmp_path):
    write_features(tmp_path / "own")
    return tmp_path / "own"


def resolve(folder, **options):
    return own_lists.resolve(folder, folder / "features", ListOptions(**options))


def run(folder, *flags):
    data = folder.parent / "data"
    assert prepare.main([str(folder), "--data_dir", str(data), *flags]) == 0
    return open_dataset(data / "own" / "1.0.0")


def names(dataset, split):
    return {entry.video for entry in dataset.split(split).entries}


def test_folders_become_a_dataset(own, capsys):
    dataset = run(own)
    assert dataset.card.class_names == ("Normal", "Fight")
    train, test = names(dataset, "train"), names(dataset, "test")
    assert len(train) == 15 and not train & test
    assert Counter(n.partition("/")[0] for n in test) == {"Fight": 2, "Normal": 3}
    record = json.loads((own / "split" / "split.json").read_text())
    assert (record["split_seed"], record["test_share"]) == (0, 0.25)
    assert "2 videos of Fight, so one video is 50 %" in capsys.readouterr().out

    # The split is read again, and new videos change nothing but a remark.
    before = (own / "split" / "test.csv").read_bytes()
    write_features(own, {"Fight": 12}, seed=0)
    again = run(own, "--split_seed", "0")
    assert (own / "split" / "test.csv").read_bytes() == before
    assert names(again, "test") == test and names(again, "train") == train
    assert "4 videos came after the split" in capsys.readouterr().out


def test_another_split_needs_the_old_one_away(own):
    first = names(run(own), "test")
    with pytest.raises(InputError, match="--split_seed 1: .* was made with 0; leave"):
        run(own, "--split_seed", "1")
    shutil.rmtree(own / "split")
    second = run(own, "--split_seed", "1", "--test_share", "0.5")
    assert len(names(second, "test")) == 10 and names(second, "test") != first


def test_check_shows_the_split_and_writes_nothing(own, capsys):
    flags = ["--check", "--test_share", "0.4", "--data_dir", str(own.parent / "data")]
    assert prepare.main([str(own), *flags]) == 0
    told = capsys.readouterr().out
    assert "test share 0.4: 12 in split/train.csv and 8 in split/test.csv" in told
    assert "--test_share 0.4" in told.splitlines()[-1]
    assert {p.name for p in own.iterdir()} == {"features"}


def test_an_error_leaves_no_split_behind(own):
    np.save(own / "features" / "Fight" / "0.npy", np.full((4, WIDTH), np.nan))
    with pytest.raises(InputError):
        run(own, "--clip", "nosuch")
    assert not (own / "split").exists()


def test_the_normal_folder_is_never_guessed(own):
    (own / "features" / "Normal").rename(own / "features" / "no_fight")
    message = "no folder is named Normal, and its folders are Fight, no_fight; pass"
    with pytest.raises(InputError, match=message):
        resolve(own)
    found = resolve(own, normal_folder="no_fight")
    entries = [e for rows in found.lists.values() for e in rows]
    assert Counter(e.labels for e in entries) == {("Normal",): 12, ("Fight",): 8}
    assert all(e.video.startswith(("no_fight/", "Fight/")) for e in entries)


def test_a_card_names_the_normal_folder(own):
    (own / "features" / "Normal").rename(own / "features" / "Calm")
    (own / "card.json").write_text(json.dumps({"normal": "calm"}))
    entries = [e for rows in resolve(own).lists.values() for e in rows]
    assert {e.labels for e in entries} == {("calm",), ("Fight",)}


def test_equal_files_stay_on_one_side(own):
    fights = own / "features" / "Fight"
    for i in range(1, 6):
        shutil.copy(fights / "0.npy", fights / f"{i}.npy")
    for seed in range(10):
        found = resolve(own, split_seed=seed)
        sides = {s: {e.video for e in rows} for s, rows in found.lists.items()}
        copies = {f"Fight/{i}" for i in range(6)}
        assert copies <= sides["train"] or copies <= sides["test"]
        assert {"Fight/6", "Fight/7"} & sides["test"]
    assert "share content: Fight/0, Fight/1, Fight/2" in "".join(found.remarks)


def test_a_list_without_test_list_is_split(own):
    rows = [f"{label}/{i},{label}" for label, n in FOLDERS.items() for i in range(n)]
    (own / "train.csv").write_text("\n".join(["video,label", *rows[:-1]]))
    text = (own / "train.csv").read_text()
    dataset = run(own)
    both = names(dataset, "train") | names(dataset, "test")
    assert both == {row.partition(",")[0] for row in rows[:-1]}
    assert (own / "train.csv").read_text() == text

    # A changed label would contradict the split.
    (own / "train.csv").write_text(text.replace("Fight/3,Fight", "Fight/3,Fire"))
    with pytest.raises(InputError, match="video Fight/3 has the label Fire, but"):
        run(own)


def test_own_lists_replace_a_split_and_say_so(own, capsys):
    tested = names(run(own), "test")
    rows = [f"{n},{n.partition('/')[0]}" for n in sorted(tested)]
    (own / "train.csv").write_text("\n".join(["video,label", *rows]))
    (own / "test.csv").write_text("video,label\nFight/0,Fight\nNormal/0,Normal\n")
    (own / "test.csv").write_text(
        "video,label\n"
        + "".join(f"{n},{n.partition('/')[0]}\n" for n in names_of_train(own)[:4])
    )
    run(own)
    told = capsys.readouterr().out
    assert "split is not used" in told
    assert "5 videos of its test list are in train.csv now" in told


def names_of_train(own):
    lines = (own / "split" / "train.csv").read_text().splitlines()[1:]
    return [line.partition(",")[0] for line in lines]


def test_videos_with_known_events_are_tested_first(own):
    truth = [{"video": f"Fight/{i}", "segments": [[0, 40]]} for i in (2, 5, 7)]
    (own / "test_segments.json").write_text(json.dumps(truth))
    dataset = run(own)
    fights = {n for n in names(dataset, "test") if n.startswith("Fight")}
    assert len(fights) == 2 and fights < {"Fight/2", "Fight/5", "Fight/7"}
    report = (dataset.path / "report.txt").read_text()
    assert "true times of 1 training video are not used" in report


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normal_folder": ""}, "--normal_folder is empty"),
        ({"normal_folder": "nosuch"}, "nosuch: not in .*its folders are Fight, Normal"),
        ({"normal_folder": "Fight"}, "has a folder Normal as well"),
        (
            {"normal_folder": "videos/Normal"},
            "expected the name of a folder in videos/",
        ),
        ({"split_seed": -1}, "--split_seed -1: expected a whole number from 0 on"),
        ({"test_share": 0.0}, "--test_share 0.0: expected a share between 0 and 1"),
        ({"test_share": 25.0}, "--test_share 25.0: expected a share"),
        ({"test_share": float("nan")}, "--test_share nan: expected a share"),
        ({"video_column": " "}, "--video_column is empty"),
        ({"video_column": "a", "label_column": "a"}, "are both a; expected two"),
        (
            {"label_column": "class"},
            "--label_column: no effect, since there is no train",
        ),
    ],
)
def test_careless_options(own, options, message):
    with pytest.raises(InputError, match=message):
        resolve(own, **options)


def test_folders_that_are_no_classes(own):
    np.save(own / "features" / "loose.npy", np.ones((4, WIDTH), np.float32))
    with pytest.raises(InputError, match=r"1 file \(loose\) is in no class folder"):
        resolve(own)
    (own / "features" / "loose.npy").unlink()
    shutil.rmtree(own / "features" / "Fight")
    with pytest.raises(InputError, match=r"1 class folder \(Normal\) to read labels"):
        resolve(own)
    write_features(own, {"train": 2})
    with pytest.raises(InputError, match="train names a split, not a class"):
        resolve(own)


def test_too_few_videos_are_refused_with_numbers(tmp_path):
    write_features(tmp_path, {"Fight": 1, "Normal": 9})
    with pytest.raises(
        InputError, match="1 abnormal video, too few to split 10 videos"
    ):
        resolve(tmp_path)


def test_the_split_depends_on_neither_order_nor_machine():
    entries = [ListEntry("", f"{i}", (("A", "N")[i % 2],)) for i in range(40)]
    chosen = [
        {e.video for e in random_split.split(
            order, [], seed=3, share=0.2, is_normal=lambda c: c == ("N",)
        )["test"]}
        for order in (entries, entries[::-1])
    ]  # fmt: skip
    assert chosen[0] == chosen[1]
    assert Counter(int(n) % 2 for n in chosen[0]) == {0: 4, 1: 4}


@pytest.mark.parametrize(
    ("header", "row", "options"),
    [
        ("id,video,label,note", "7,Fight/0,Fight,", {}),
        (
            "file;class",
            "Fight/0;Fight",
            {"video_column": "file", "label_column": "class"},
        ),
        ("Label,VIDEO", "Fight,Fight/0", {}),
        ("video,class", "Fight/0,Fight", {"label_column": "Class"}),
    ],
)
def test_columns(own, header, row, options):
    mark = ";" if ";" in header else ","
    other = row.replace("Fight/0", "Normal/0").replace(f"{mark}Fight", f"{mark}Normal")
    other = other.replace("Fight,", "Normal,", 1) if header[0] == "L" else other
    rows = {"train": (row, other), "test": tuple(
        r.replace("/0", "/1") for r in (row, other)
    )}  # fmt: skip
    for split, lines in rows.items():
        (own / f"{split}.csv").write_text("\n".join([header, *lines]))
    lists = resolve(own, **options).lists
    assert [(e.video, e.labels) for e in lists["test"]] == [
        ("Fight/1", ("Fight",)),
        ("Normal/1", ("Normal",)),
    ]


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        ("file,class", {}, "its columns are file, class; pass --video_column"),
        (
            "video,label",
            {"label_column": "y"},
            "--label_column y: .*no column y; its columns are video",
        ),
        ("video,label,label", {}, r"names the column label 2 times"),
        (
            "video,label,note",
            {},
            r"train.csv:2: expected video,label,note, found 'Fight",
        ),
    ],
)
def test_columns_that_are_not_there(own, header, options, message):
    for split in ("train", "test"):
        (own / f"{split}.csv").write_text(f"{header}\nFight/0,Fight\n")
    with pytest.raises(InputError, match=message):
        resolve(own, **options)


def test_a_video_moved_after_the_split_does_not_keep_its_old_label(own, capsys):
    features = own / "features"
    (features / "Normal" / "3.npy").rename(features / "Normal" / "corridor.npy")
    run(own)

    # The features of a deleted video would still be used, so it is named.
    (features / "Normal" / "corridor.npy").rename(own / "corridor.npy")
    check = [str(own), "--check", "--data_dir", str(own.parent / "data")]
    prepare.main(check)
    told = capsys.readouterr().out
    assert "1 video of the split is no longer in the folder: Normal/corridor" in told

    (own / "corridor.npy").rename(features / "Fight" / "corridor.npy")
    message = (
        r"split.*\.csv.*: video Normal/corridor is no longer .* Fight/corridor is new"
    )
    with pytest.raises(InputError, match=message):
        run(own)
    for name in ("train.csv", "test.csv"):
        path = own / "split" / name
        text = path.read_text().replace(
            "Normal/corridor,Normal", "Fight/corridor,Fight"
        )
        path.write_text(text)
    dataset = run(own)
    assert "Fight/corridor" in names(dataset, "train") | names(dataset, "test")
