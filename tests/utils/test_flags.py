"""Flags: which were passed, which fit together, which may be meant."""

import pathlib
import shlex
import tomllib

import pytest

from wsvad_jax import benchmark, detect, extract, report
from wsvad_jax.detection import export
from wsvad_jax.experiment.config import load_config
from wsvad_jax.export import main as export_main
from wsvad_jax.utils import flags
from wsvad_jax.utils.errors import InputError
from wsvad_jax.weights import convert

REPOSITORY = pathlib.Path(__file__).parent.parent.parent


def parser() -> flags.Parser:
    made = flags.Parser(prog="p", meant={"threshold": "--high"})
    made.add_argument("inputs", nargs="*")
    made.add_argument("--high", type=float, default=0.5)
    made.add_argument("--clip-model", dest="clip")
    made.add_argument("-f", "--force", action="store_true")
    return made


def test_given_are_those_that_were_passed():
    argv = ["a", "--high", "0.5", "-f"]
    assert flags.given(parser(), argv) == {"high": "--high", "force": "--force"}
    assert flags.given(parser(), ["a"]) == {}
    known = parser().parse_args(argv)
    assert known.high == 0.5 and known.clip is None


def test_flags_without_an_effect_are_refused():
    passed = flags.given(parser(), ["--high=1", "--clip-model=x"])
    flags.refuse(passed, ("force",), "--live")
    with pytest.raises(
        InputError, match=r"^--clip-model has no effect with --live; le"
    ):
        flags.refuse(passed, ("clip", "force"), "--live")
    with pytest.raises(
        InputError, match=r"--high, --clip-model have .*; leave them out"
    ):
        flags.refuse(passed, ("high", "clip"), "--live")


@pytest.mark.parametrize(
    ("word", "wanted"),
    [("--threshold=1", "--high"), ("--hihg", "--high"), ("--forse", "--force")],
)
def test_an_unknown_flag_names_the_one_meant(capsys, word, wanted):
    with pytest.raises(SystemExit) as e:
        parser().parse_args(["a", word])
    assert e.value.code == 2
    assert f"did you mean {wanted}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--epochs", "5"], "--config.clean.epochs or --config.paper.epochs"),
        (["--learning-rate=1"], "did you mean --config.clean.optim.default.lr or"),
        (["--batch_size", "8"], "did you mean --config.clean.batch_size or"),
        (["--seed=1"], "--seed: no flag of this program; did you mean --seeds or"),
        (["--lr=1"], "did you mean --config.clean.optim.default.lr or"),
        (["--heldout", "0"], "--config.clean.held_out or --config.paper.held_out"),
        (["--wrokdir", "a"], "did you mean --workdir?"),
        (["--nothing_like_it"], "--help lists what there is"),
    ],
)
def test_a_flag_of_training_names_the_recipe_s_key(arguments, wanted):
    with pytest.raises(InputError) as e:
        load_config(["--config=dsanet", *arguments], flags=["--workdir", "--seeds"])
    assert wanted.replace(" or --config.paper.held_out", "") in str(e.value)


def test_hyphens_and_underscores_are_the_same():
    assert parser().parse_args(["--clip_model", "x"]).clip == "x"
    known, rest = parser().parse_known_args(["--clip-model=x", "--no-such-flag=a_b"])
    assert known.clip == "x" and rest == ["--no-such-flag=a_b"]


def test_flags_are_not_abbreviated(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["a", "--hig", "1"])
    assert "did you mean --high?" in capsys.readouterr().err


def test_a_command_is_quoted_for_a_shell():
    path = """/a b/it's:x=1;$(no)"""
    line = flags.command("train", "--config", f"dsanet:{path}")
    assert shlex.split(line) == [
        *("python", "-m", "wsvad_jax.train", "--config"),
        f"dsanet:{path}",
    ]


def test_install_hints_name_what_the_extras_need():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for extra, packages in flags.EXTRAS.items():
        wanted = [x.partition(">")[0] for x in project["optional-dependencies"][extra]]
        assert list(packages) == wanted
        assert flags.install(extra) == f"pip install {' '.join(wanted)}"


READY = ("--checkpoint", "nowhere")
TORCH = ("--torch", "nowhere.pth", "--output", "never")


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (
            detect.main,
            ("--live", "a", *READY, "--output", "o"),
            "--output has no effect",
        ),
        (detect.main, ("--live", "a", *READY, "--rise", ".2"), "use --high and --low"),
        (
            detect.main,
            ("--live", "a", *READY, "--share", ".2"),
            "--share has no effect",
        ),
        (
            detect.main,
            ("--live", "a", *READY, "--truth", "t"),
            "--ground_truth has no effect",
        ),
        (detect.main, ("--live", "a", *READY, "--fps", "5"), "--fps has no effect"),
        (
            detect.main,
            ("b", "--live", "a", *READY),
            "b: beside --live a, inputs have no effect",
        ),
        (
            detect.main,
            ("--live", "rtsp://a", *READY, "--pace", "2"),
            "--pace has no eff",
        ),
        (
            detect.main,
            ("b", *READY, "--output", "o", "--pace", "0"),
            "--pace has no eff",
        ),
        (
            detect.main,
            ("b", *READY, "--output", "o", "--low", ".2", "--rise", ".2"),
            "--min_prominence has no effect with --low",
        ),
        (
            detect.main,
            ("rtsp://a", *READY, "--output", "o"),
            "pass it as --live rtsp://a",
        ),
        (detect.main, ("https://a/b.mp4", *READY), "pass it as --live https://a/b.mp4"),
        (
            detect.main,
            ("-", *READY, "--output", "o"),
            "-: a stream, not a file; pass it",
        ),
        (
            extract.main,
            ("rtsp://a", "--clip", "x", "--output", "o"),
            "detect --live rtsp://a",
        ),
        (
            export_main,
            (*READY, "--output", "m.onnx", "--format", "stablehlo"),
            "ending means onn",
        ),
        (
            export_main,
            (*READY, "--output", "M.StableHLO", "--format", "onnx"),
            "ending means sta",
        ),
        (export_main, (*READY, "--output", "m.pth"), ".pth is another format's ending"),
        (
            export_main,
            (*READY, "--output", "m", "--batch", "2"),
            "--batch has no effect",
        ),
        (
            report.main,
            ("a", "--collect", "b", "--published"),
            "--published has no effe",
        ),
        (
            benchmark.main,
            ("speed", "--works", "training,scoring", "--videos", "3"),
            "--videos has no effect with --workloads training,scoring",
        ),
        (
            benchmark.main,
            ("speed", "--works", "scoring", "--profile", "d"),
            "--profile",
        ),
        (
            benchmark.main,
            ("speed", "--works", "scoring", "--film", "f"),
            "--video_file has no",
        ),
    ],
)
def test_modes_refuse_what_they_ignore(main, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as e:
        main(list(arguments))
    assert message in str(e.value)
    assert not list(tmp_path.iterdir())


def test_a_file_is_what_its_ending_says():
    for name, kind in (
        ("m.onnx", "onnx"),
        ("m.stablehlo", "stablehlo"),
        ("m", "stableh"),
    ):
        assert export.format_of(pathlib.Path(name)).startswith(kind)
    assert export.format_of(pathlib.Path("m.v2"), "onnx") == "onnx"


def test_convert_has_no_use_for_a_tokenizer_without_a_text_tower(released, tmp_path):
    torch = pytest.importorskip("torch")
    state = {k: torch.from_numpy(x) for k, x in released("mil_ranking").items()}
    torch.save(state, tmp_path / "a.pth")
    config = load_config("mil_ranking:ucf")
    with pytest.raises(InputError, match="contains no CLIP model"):
        convert.import_file(config, tmp_path / "a.pth", tmp_path / "out", "some/clip")
    assert not (tmp_path / "out").exists()
