"""Datasets on disk: what goes in comes out, whole or not at all."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

import numpy as np
import pytest

from wsvad_jax.data import tfds_builder
from wsvad_jax.data.cards import infer_card
from wsvad_jax.data.records import FeatureProtocol, Record
from wsvad_jax.data.tfds_builder import open_dataset, write_dataset
from wsvad_jax.utils.errors import InputError

CARD = infer_card(["Normal", "Fire", "Fight"], name="small")


def write(path, train, test, card=CARD):
    splits = {"train": train, "test": test}
    return write_dataset("small", card, FeatureProtocol(), splits, path)


def same(a: Record, b: Record) -> bool:
    fields = ("video", "label", "num_frames", "segments")
    return all(getattr(a, f) == getattr(b, f) for f in fields) and np.array_equal(
        a.features, b.features
    )


def test_records_come_back(dataset, records):
    train = dataset.split("train")
    assert len(train) == 23 and dataset.width == 6
    assert dataset.protocol == FeatureProtocol("tower", 16, 2, "middle")
    assert dataset.card == CARD
    for got, made in zip(train, records(23, "a"), strict=True):
        assert got.features.dtype == np.float16 and same(got, made)
    assert same(train[-1], list(records(23, "a"))[-1])
    assert [r.video for r in train[3:5]] == ["a3", "a4"]
    with pytest.raises(IndexError):
        train[23]
    with pytest.raises(InputError, match="no split 'valid', only train, test"):
        dataset.split("valid")


def test_entries_are_records_without_features(dataset):
    for entry, record in zip(
        dataset.split("test").entries, dataset.split("test"), strict=True
    ):
        assert (entry.num_crops, entry.num_snippets) == record.features.shape[:2]
        assert (entry.video, entry.label) == (record.video, record.label)
        assert (entry.num_frames, entry.segments) == (
            record.num_frames,
            record.segments,
        )


def test_more_records_than_a_shard_holds_keep_their_order(tmp_path):
    def small(prefix):
        for i in range(tfds_builder.SHARD_RECORDS + 3):
            features = np.full((1, 1, 2), i, np.float16)
            yield Record(f"{prefix}{i}", features, (i % 3,), 16)

    path = write(tmp_path, small("a"), small("b"))
    values = [int(r.features[0, 0, 0]) for r in open_dataset(path).split("test")]
    assert values == list(range(tfds_builder.SHARD_RECORDS + 3))


def test_tfds_reads_it_and_tensorflow_stays_out(dataset):
    code = f"""
        import sys
        import tensorflow_datasets as tfds
        builder = tfds.builder_from_directory({str(dataset.path)!r})
        example = builder.as_data_source("train")[4]
        assert example["features"].shape[0] == 2, example
        assert [int(c) for c in example["label"]] == [1, 2]
        assert builder.info.features["label"].feature.names == [
            "Normal", "Fight", "Fire"]
        assert builder.info.description and builder.info.metadata["content"]
        from wsvad_jax.data.tfds_builder import open_dataset
        open_dataset({str(dataset.path)!r}).split("train")[0]
        loaded = {{name.partition(".")[0] for name in sys.modules}}
        assert not loaded & {{"tensorflow", "torch"}}
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def first_video(split):
    return split[0].video


def test_works_across_processes(dataset):
    split = pickle.loads(pickle.dumps(dataset)).split("test")
    split[0]  # the files are open when the split is passed on
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(first_video, [split]) == "b0"


def test_content_hash_is_of_the_records_in_order(tmp_path, records):
    train, test = list(records(6, "a")), list(records(3, "b"))
    swapped = [train[1], train[0], *train[2:]]
    found = [
        open_dataset(write(tmp_path / str(i), rows, test)).content
        for i, rows in enumerate([train, train, swapped])
    ]
    assert found[0] == found[1] != found[2]


def test_nothing_is_left_in_the_systems_folder(tmp_path, records, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    write(tmp_path, records(2, "a"), records(1, "b"))
    assert not [*(tmp_path / "tmp").iterdir()]


def test_a_later_build_replaces_an_older_one(tmp_path, records):
    old = write(tmp_path, records(6, "a"), records(3, "b"))
    new = write(tmp_path, records(4, "c"), records(2, "d"))
    assert old == new
    assert [r.video for r in open_dataset(new).split("train")] == [
        "c0",
        "c1",
        "c2",
        "c3",
    ]
    assert sorted(os.listdir(tmp_path)) == ["small"]


def test_a_build_that_fails_leaves_the_older_one(tmp_path, records):
    path = write(tmp_path, records(4, "a"), records(2, "b"))

    def broken():
        yield from records(2, "c")
        raise InputError("the third file is bad")

    with pytest.raises(InputError, match="third file"):
        write(tmp_path, broken(), records(2, "d"))
    assert len(open_dataset(path).split("train")) == 4
    assert sorted(os.listdir(tmp_path)) == ["small"]


def test_a_killed_build_leaves_nothing_that_opens(tmp_path, records):
    code = f"""
        import numpy as np, os, time
        from wsvad_jax.data.tfds_builder import write_dataset
        from wsvad_jax.data.cards import infer_card
        from wsvad_jax.data.records import FeatureProtocol, Record
        def slow():
            for i in range(200):
                yield Record(f"v{{i}}", np.zeros((1, 9, 4), np.float16), (i % 2,), 144)
            print("written", flush=True)
            time.sleep(60)
        write_dataset("small", infer_card(["Normal", "Fire"]), FeatureProtocol(),
                      {{"train": slow(), "test": slow()}}, {str(tmp_path)!r})
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "small" / "1.0.0").exists()
    with pytest.raises(InputError, match="not a prepared dataset"):
        open_dataset(tmp_path / "small" / "1.0.0")
    # The next build clears what the dead one left.
    assert any(p.name.startswith(".building") for p in tmp_path.iterdir())
    write(tmp_path, records(4, "a"), records(2, "b"))
    assert sorted(os.listdir(tmp_path)) == ["small"]


def test_memory_does_not_grow_with_the_dataset(tmp_path):
    code = f"""
        import numpy as np, resource
        from wsvad_jax.data.tfds_builder import write_dataset
        from wsvad_jax.data.cards import infer_card
        from wsvad_jax.data.records import FeatureProtocol, Record
        def many(prefix, count):
            for i in range(count):
                yield Record(f"{{prefix}}{{i}}", np.zeros((1, 8192, 512), np.float16),
                             (i % 2,), 8192 * 16)
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        for count in (4, 32):  # 8 MB a record: 34 MB, then 270 MB
            write_dataset("small", infer_card(["Normal", "Fire"]), FeatureProtocol(),
                          {{"train": many("a", count), "test": many("b", 1)}},
                          {str(tmp_path)!r})
            print(peak())
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=True,
        capture_output=True,
        text=True,
    )
    few, many = map(float, result.stdout.split())
    assert many < few + 150


def damage_shard(path):
    shard = next(path.glob("*train.array_record*"))
    shard.write_bytes(shard.read_bytes()[:-100])


def lose_shard(path):
    next(path.glob("*test.array_record*")).unlink()


def spoil_metadata(path):
    (path / "metadata.json").write_text("{}")


def spoil_index(path):
    (path / "index.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_shard, "expected .* bytes; prepare the dataset again"),
        (lose_shard, "is missing"),
        (spoil_metadata, "prepare the dataset again"),
        (spoil_index, "expected a JSON file"),
    ],
)
def test_damage_is_found_when_the_dataset_is_opened(dataset, damage, message):
    damage(dataset.path)
    with pytest.raises(InputError, match=message):
        open_dataset(dataset.path)


def test_damage_inside_a_shard_is_found_when_it_is_read(dataset):
    shard = next(dataset.path.glob("*train.array_record*"))
    content = bytearray(shard.read_bytes())
    content[200:2000] = bytes(1800)
    shard.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        list(open_dataset(dataset.path).split("train"))


def record(video="x", shape=(1, 3, 4), label=(0,), frames=48, segments=()):
    return Record(video, np.zeros(shape, np.float16), label, frames, segments)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (record("v"), "is already in train"),
        (record(shape=(1, 3, 5)), "5 wide, the videos before it 4"),
        (record(shape=(2, 3, 4)), "2 crops, the videos before it 1"),
        (record(shape=(1, 0, 4)), "at least one snippet"),
        (record(label=()), "class outside 0"),
        (record(label=(7,)), "class outside 0"),
        (record(segments=((0, 49, 1),)), "segment outside its 48 frames"),
        (record(segments=((9, 9, 1),)), "segment outside its 48 frames"),
    ],
)
def test_records_that_do_not_fit(tmp_path, bad, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path, [record("v"), bad], [record("w")])
    assert os.listdir(tmp_path) == []


def test_empty_split_and_crop_out_of_reach(tmp_path):
    with pytest.raises(InputError, match="the test split has no videos"):
        write(tmp_path, [record("v")], [])
    card = infer_card(["Normal", "Fire", "Fight"])
    card = type(card).from_json({**card.to_json(), "test_crop": 5}, "card")
    with pytest.raises(InputError, match="the card tests crop 5"):
        write(tmp_path, [record("v")], [record("w")], card)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "file", [record("v")], [record("w")])


def test_reading_a_video_takes_milliseconds(tmp_path):
    path = write(
        tmp_path,
        (record(f"a{i}", (10, 100, 512), frames=1600) for i in range(20)),
        [record("w", (10, 100, 512), frames=1600)],
    )
    split = open_dataset(path).split("train")
    split[0]
    start = time.perf_counter()
    list(split)
    assert (time.perf_counter() - start) / len(split) < 0.05  # 1 MB each
