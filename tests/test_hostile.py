"""Whatever lies in a file: a value, or one sentence that names the file."""

import importlib.util
import pathlib
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers import READERS, npy
from trials import Trial, mutated

import wsvad_jax
from wsvad_jax.detection.report import page
from wsvad_jax.results import runs, seed_groups, tables
from wsvad_jax.utils.errors import InputError

CORPUS = pathlib.Path(__file__).parent / "support" / "hostile"  # what was a fault once
SLOW = ("clip_config", "clip_msgpack", "clip_safetensors", "real_video")
EXAMPLES = {"video": 10} | dict.fromkeys(SLOW, 3)


@pytest.fixture(scope="module", params=list(READERS))
def trial(request, tmp_path_factory):
    if request.param == "pth":
        pytest.importorskip("torch", reason="reading .pth needs PyTorch")
    found = Trial(READERS[request.param], tmp_path_factory.mktemp(request.param))
    return request.param, found


def test_right_files_are_read(trial):
    assert trial[1](trial[1].samples[0])


def test_files_of_something_else(trial):
    _, attempt = trial
    for data in (
        b"",
        b"\0" * 100,
        b"null",
        b"[]",
        b"{}",
        b"\xff" * 9,
        b"a,b\n\n",
        b'"',
    ):
        attempt(data)


def test_past_faults(trial):
    name, attempt = trial
    for path in sorted(CORPUS.glob(f"{name}-*")):
        attempt(path.read_bytes())


def test_damaged_files(trial):
    name, attempt = trial

    @settings(
        max_examples=EXAMPLES.get(name, 25),
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.integers(0, 2**32), st.integers(0, len(attempt.samples) - 1))
    def damage(seed, sample):
        attempt(mutated(attempt.samples[sample], random.Random(seed)))

    damage()


def test_a_pickle_runs_no_code(tmp_path):
    """Neither as an array of objects nor as PyTorch's weights."""
    import pickle

    import numpy as np

    class Evil:
        def __reduce__(self):
            return (pathlib.Path.touch, (tmp_path / "ran",))

    bad = pickle.dumps({"fc1.weight": Evil()})
    arrays = npy(np.array([Evil()], object), allow_pickle=True)
    readers = ["npy", "mask", "safetensors", "scores"]
    if importlib.util.find_spec("torch"):
        readers.append("pth")
    for name in readers:
        folder = tmp_path / name
        folder.mkdir()
        attempt = Trial(READERS[name], folder)
        assert not attempt(bad) and not attempt(arrays)
    assert not (tmp_path / "ran").exists()


def test_messages_are_printable_and_short():
    error = str(InputError("a\nb\x1b[31m\ud800" + "x" * 50_000))
    assert error.startswith("a\\nb\\x1b[31m\\ud800xxx") and len(error) < 10_100


def test_names_are_no_markup_and_no_path(tmp_path):
    from finished import recipe, write_run

    evil = '<script>alert(1)</script>|"/../../x'
    write_run(tmp_path / "run", recipe("dsanet", "ucf"), dataset=evil)
    found, summaries, _ = runs.find_runs([tmp_path / "run"])
    text = tables.markdown(tables.tables(seed_groups.group_by_recipe(found, summaries)))
    assert "<script" not in text and "\\|" in text
    (path,) = runs.collect(found, tmp_path / "out")
    assert path.resolve().is_relative_to((tmp_path / "out").resolve())


def test_labels_are_no_markup_in_the_page_of_events(tmp_path):
    import dataclasses

    from report_samples import detection_result

    evil = "<img src=x onerror=alert(1)>"
    found = detection_result(evil)
    events = tuple(dataclasses.replace(e, category=evil) for e in found.events)
    names = ("Normal", evil, '"onload="')
    found = dataclasses.replace(found, events=events, class_names=names)
    page.write_report(
        tmp_path / "a.html", [found, found], title=evil, settings={evil: evil}
    )
    assert "<img src=x" not in (tmp_path / "a.html").read_text()


def test_no_way_to_run_what_a_file_says():
    """No eval, no pickle, no shell in the package."""
    import ast

    package = pathlib.Path(wsvad_jax.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("eval", "exec", "os.system", "pickle.load"), path
                for keyword in node.keywords:
                    value = ast.unparse(keyword.value)
                    bad = keyword.arg in ("shell", "allow_pickle") and value != "False"
                    assert not bad, f"{path}: {ast.unparse(node)}"
