"""`benchmark compare`: pairs of seeds, differences with intervals, and what is refused."""

import pytest
from finished import recipe, write_run, write_small

from wsvad_jax import benchmark
from wsvad_jax.benchmarks.compare import compare
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Runs of two recipes with the same two seeds, on a prepared dataset."""
    root = tmp_path_factory.mktemp("compare")
    dataset = write_small(root / "data")
    for name, changes in (("plain", ()), ("other", ("loss.align=2",))):
        for seed in (0, 1):
            config = recipe("vadclip", str(dataset), seed, *changes)
            write_run(root / name / f"seed{seed}", config, "small")
    return root


def test_a_recipe_does_not_differ_from_itself(folders):
    found = compare(folders / "plain", folders / "plain")
    assert found["seeds"] == [0, 1] and found["videos"] == 12
    for metric in found["metrics"].values():
        assert metric["base"] == metric["changed"]
        assert metric["difference"]["mean"] == 0
        assert metric["difference"]["interval"] == [0, 0]


def test_values_are_those_of_the_runs(folders, tmp_path, capsys):
    sides = ["--base", str(folders / "plain"), "--changed", str(folders / "other")]
    page = tmp_path / "page.md"
    page.write_text("# T\n<!-- results:begin -->\n<!-- results:end -->\n")
    out = ["--output", str(tmp_path / "out"), "--markdown", str(page)]
    assert benchmark.main(["compare", *sides, *out]) == 0
    found = read_json(tmp_path / "out/small/vadclip.json")
    assert found["differing"] == {"loss.align": [1.0, 2.0]}
    metrics = found["metrics"]
    for name in ("auc", "ap", "video_auc"):
        runs = [
            read_json(folders / "other" / f"seed{seed}" / "results.json")[name]
            for seed in (0, 1)
        ]
        assert metrics[name]["changed"]["mean"] == pytest.approx(sum(runs) / 2)
    title = "vadclip on small, 12 test videos, 2 seeds: loss.align 1.0 and 2.0"
    assert title in capsys.readouterr().out and title in page.read_text()

    # The page is checked against the files alone.
    assert benchmark.main(["compare", *out, "--check"]) == 0
    page.write_text(page.read_text().replace("12 test videos", "13 test videos"))
    assert benchmark.main(["compare", *out, "--check"]) == 1


def test_what_has_no_pairs_is_refused(folders, tmp_path):
    def refused(words, base, changed, *flags):
        sides = ["--base", str(base), "--changed", str(changed), *map(str, flags)]
        with pytest.raises(InputError, match=words):
            benchmark.main(["compare", "--output", str(tmp_path / "out"), *sides])
        assert not (tmp_path / "out").exists()

    plain = folders / "plain"
    refused("no such run", plain, tmp_path / "nowhere")
    refused(r"has seeds \[0, 1\], .* has \[0\]", plain, plain / "seed0")
    refused("seeds of one summary must share|differ", folders, folders)
    (tmp_path / "file").write_text("x")
    refused("is a file; expected a folder", plain, plain, "--output", tmp_path / "file")
    refused("trains nothing", plain, plain, "--config.seed=1")
    write_json(tmp_path / "begun" / "config.json", {})
    refused("not finished|no finished run|no run", plain, tmp_path / "begun")
