"""The program: real features in seconds, reports, names and paths."""

import re
import shlex
import subprocess
import sys
import time

import numpy as np
import pytest

from wsvad_jax import prepare
from wsvad_jax.data.tfds_builder import dataset_folder, open_dataset
from wsvad_jax.datasets import registry
from wsvad_jax.experiment.config import load_config
from wsvad_jax.utils.errors import InputError


def run(own, data_dir, *more):
    assert prepare.main([str(own.path), "--data_dir", str(data_dir), *more]) == 0
    return open_dataset(data_dir / "own" / "1.0.0")


def test_real_features(shared, tmp_path, capsys):
    source = shared("data/ucf_r3d18")
    start = time.perf_counter()
    assert prepare.main([str(source), "--data_dir", str(tmp_path)]) == 0
    assert time.perf_counter() - start < 60  # a few seconds on an idle machine
    dataset = open_dataset(tmp_path / "ucf_r3d18" / "1.0.0")
    train, test = dataset.split("train"), dataset.split("test")
    assert (len(train), len(test), dataset.width) == (1087, 252, 512)
    assert len(dataset.card.classes) == 14 and dataset.card.classes[0].name == "Normal"
    assert dataset.card.classes[8].prompts == ("road accidents",)
    record = test[0]
    stored = np.load(source / "features" / "Abuse009_x264.npy")
    assert record.video == "Abuse009_x264" and record.num_frames == 512
    np.testing.assert_array_equal(record.features[0], stored.astype(np.float16))
    abuse = dataset.card.index("Abuse")
    assert record.segments == ((192, 304, abuse), (352, 432, abuse))
    assert str(dataset.path) in capsys.readouterr().out


def test_again_gives_the_same(own, tmp_path):
    first = run(own, tmp_path / "data")
    assert run(own, tmp_path / "data").content == first.content
    assert (
        (first.path / "report.txt").read_text().startswith("train: 5 videos (2 normal")
    )


def test_features_may_lie_elsewhere(own, tmp_path):
    (tmp_path / "disk").mkdir()
    (own.path / "features").rename(tmp_path / "disk" / "extracted")
    (tmp_path / "linked").symlink_to(tmp_path / "disk")
    dataset = run(
        own, tmp_path / "data", "--features", str(tmp_path / "linked" / "extracted")
    )
    assert len(dataset.split("train")) == 5
    with pytest.raises(InputError, match="features: no such folder"):
        run(own, tmp_path / "data")


def test_skip_bad_reports(own, tmp_path, capsys):
    own.feature("f0").unlink()
    own.write_features("n1", np.full((4, 6), np.nan, np.float32))
    with pytest.raises(InputError, match="f0.npy"):
        run(own, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    dataset = run(own, tmp_path / "data", "--skip-bad")
    assert [r.video for r in dataset.split("train")] == ["n0", "f1", "m0"]
    report = (dataset.path / "report.txt").read_text()
    assert (
        "left out: 2 problems" in report and "f0.npy" in report and "n1.npy" in report
    )
    assert "f0.npy" in capsys.readouterr().out


def test_all_bad_is_an_error_even_then(own, tmp_path):
    for video, _ in own.rows["test"]:
        own.feature(video).unlink()
    with pytest.raises(InputError, match="the test split has no videos"):
        run(own, tmp_path / "data", "--skip-bad")


def test_another_folder_of_the_same_name_is_not_replaced(own, tmp_path):
    run(own, tmp_path / "data")
    other = type(own)(tmp_path / "elsewhere" / "own")
    with pytest.raises(InputError, match="already holds the dataset made from"):
        run(other, tmp_path / "data")
    other.write_card(name="another")
    prepare.prepare(str(other.path), data_dir=str(tmp_path / "data"))
    assert (tmp_path / "data" / "another").is_dir()
    other.write_card(name="UCF")
    with pytest.raises(InputError, match="is the name of a built-in dataset"):
        prepare.prepare(str(other.path), data_dir=str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "no folder 'nosuch' and no public dataset of that name"),
        (["ucf"], "ucf needs --features DIR"),
        (["xd", "--features", "."], "xd needs --features DIR"),
        (
            ["ucf", "--features", "nosuch", "--annotations", "."],
            "--features nosuch: no",
        ),
        ([".", "--annotations", "."], "--annotations belongs to public datasets"),
        ([".", "--slack", "3"], "--slack 3: expected 0 or 1"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path):
    with pytest.raises(InputError, match=message):
        prepare.main([*arguments, "--data_dir", str(tmp_path)])


def test_the_program_ends_with_one_line(own, tmp_path):
    own.feature("f0").write_bytes(b"")
    command = [sys.executable, "-m", "wsvad_jax.prepare", str(own.path)]
    command += ["--data_dir", str(tmp_path / "data")]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "f0.npy: the file is empty" in last


def test_help_is_light():
    code = (
        "import sys\nfrom wsvad_jax import prepare\n"
        "try: prepare.main(['--help'])\nexcept SystemExit as e: assert not e.code\n"
        "heavy = {'jax', 'flax', 'tensorflow_datasets', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "--skip-bad" in result.stdout and "ucf --features DIR" in result.stdout


def test_names_and_paths(own, tmp_path, monkeypatch):
    data = tmp_path / "data"
    path = run(own, data).path
    for name in (str(path), str(path.parent), "own"):
        assert open_dataset(registry.resolve(name, data)).path == path
    monkeypatch.setenv("WSVAD_JAX_CACHE", str(tmp_path))
    assert registry.resolve("own") == path  # the cache's data folder is the default
    with pytest.raises(InputError, match=r"first run python -m wsvad_jax.prepare"):
        registry.resolve(str(own.path), data)
    with pytest.raises(InputError, match="wsvad_jax.prepare ucf --features DIR"):
        registry.resolve("ucf", data)
    with pytest.raises(InputError, match="no dataset 'dmeo'; expected demo, ucf, xd, "):
        registry.resolve("dmeo", data)
    with pytest.raises(InputError, match="ubnormal, own, or the path"):
        registry.resolve("/no/such/folder", data)


def printed(capsys) -> list[str]:
    """The words of the command that prepare prints for training."""
    lines = capsys.readouterr().out.splitlines()
    (line,) = [x for x in lines if x.startswith("train: python")]
    return shlex.split(line.removeprefix("train: "))


def test_the_printed_command_names_a_path_that_a_shell_reads(own, tmp_path, capsys):
    data = tmp_path / "it's data: a=b"
    path = run(own, data).path
    config = printed(capsys)[-1]
    assert config == f"mil_ranking:{path}"  # 8 heads don't divide features 6 wide
    assert load_config(config).data.name == str(path)
    for video in (v for rows in own.rows.values() for v, _ in rows):
        own.write_features(video, np.ones((4, 16), np.float32))
    run(own, data)
    assert printed(capsys) == [
        *("python", "-m", "wsvad_jax.train", "--config", f"dsanet:{path}")
    ]


def test_a_name_of_its_own(own, tmp_path, capsys):
    run(own, tmp_path)
    other = type(own)(tmp_path / "elsewhere" / "own")
    with pytest.raises(InputError, match="already holds .*; pass --name NAME"):
        run(other, tmp_path)
    arguments = [str(other.path), "--data_dir", str(tmp_path), "--name", "Back yard"]
    assert prepare.main(arguments) == 0
    dataset = open_dataset(tmp_path / "back_yard" / "1.0.0")
    assert dataset.card.name == "Back yard"
    for name, message in (("xd", "a built-in dataset"), (" ", "--name is empty")):
        with pytest.raises(InputError, match=message):
            prepare.main([*arguments[:-1], name])
    with pytest.raises(InputError, match="--name a: ucf keeps its name"):
        prepare.main(["ucf", "--name", "a", "--data_dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Back yard", "back_yard"),
        ("-a.B--1_", "a_b_1"),
        ("vidéo 1", "vid_o_1_8d72315d"),
        ("vide\u0301o 1", "vid_o_1_8d72315d"),  # the same, decomposed
        ("x" * 100, "x" * 100),
    ],
)
def test_names_of_datasets(name, folder):
    assert dataset_folder(name) == folder


def test_names_in_other_alphabets_do_not_meet():
    names = ("ü", "цех", "цеx", "日本", "日本 2", "own ü", "own", "cam 🎥", "cam")
    found = [dataset_folder(name) for name in names]
    assert len({*found}) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_]+", folder) for folder in found)


@pytest.mark.parametrize("name", ["..", ".", "=", "_", "🎥", "x" * 101, "é" + "x" * 99])
def test_names_that_no_dataset_can_have(own, tmp_path, name):
    data = ["--data_dir", str(tmp_path / "data")]
    with pytest.raises(InputError, match="; pass .*--name NAME"):
        prepare.main([str(own.path), "--name", name, *data])
    assert not (tmp_path / "data").exists()


def test_a_dataset_is_not_replaced_by_another_alphabet(own, tmp_path):
    data = ["--data_dir", str(tmp_path / "data")]
    for name in ("цех", "日本"):
        assert prepare.main([str(own.path), "--name", name, *data]) == 0
    names = {p.parent.name for p in (tmp_path / "data").glob("*/1.0.0")}
    assert names == {dataset_folder("цех"), dataset_folder("日本")}


def test_a_card_without_classes_has_those_of_the_labels(own, tmp_path):
    card = '{"name": "yard", "clip": "some/clip"}'
    (own.path / "card.json").write_text(card)
    (own.path / "features" / "protocol.json").write_text('{"stride": 16, "crops": 1}')
    prepare.prepare(str(own.path), data_dir=str(tmp_path))
    card = open_dataset(tmp_path / "yard" / "1.0.0").card
    assert card.class_names == ("Normal", "Fight", "Fire")
    assert (card.name, card.clip) == ("yard", "some/clip")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([".", "--check", "--clip", "x"], "--clip has no effect with --check"),
        ([".", "--check", "--skip-bad"], "--skip-bad has no effect with --check"),
        ([".", "--check", "--runner", "x"], "--runner has no effect with --check"),
        (["ucf", "--check"], "--check looks through a folder of your own; ucf is"),
        (["demo", "--features", "x"], "--features has no effect with demo"),
        (["demo", "--skip-bad"], "--skip-bad has no effect with demo"),
    ],
)
def test_flags_without_an_effect(arguments, message, tmp_path):
    with pytest.raises(InputError, match=message):
        prepare.main([*arguments, "--data_dir", str(tmp_path)])
    assert not list(tmp_path.iterdir())
