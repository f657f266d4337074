"""--quiet and --json of the programs."""

import argparse
import json

from wsvad_jax.utils import flags, program, progress


def known(*words: str) -> argparse.Namespace:
    parser = flags.Parser()
    flags.add_output_flags(parser)
    return parser.parse_args(words)


def work(known: argparse.Namespace) -> None:
    with program.output(quiet=known.quiet, json_only=known.json) as output:
        progress.status("now")
        print("a table")
        with progress.Progress("work", 2) as bar:
            bar.update(2)
        output.value = {"auc": 0.5, "name": "Überfall"}


def test_without_flags_all_is_printed(capsys):
    work(known())
    out, err = capsys.readouterr()
    assert out == "now\na table\n" and "work 2/2" in err


def test_quiet_leaves_results(capsys):
    work(known("--quiet"))
    assert capsys.readouterr() == ("a table\n", "")
    work(known())  # and only for that work
    assert "now" in capsys.readouterr().out


def test_json_is_alone_on_standard_output(capsys):
    work(known("--json"))
    out, err = capsys.readouterr()
    assert json.loads(out) == {"auc": 0.5, "name": "Überfall"}
    assert out.count("\n") == 1 and "a table" in err and "now" in err
