"""Scores a test set with a trained or converted model, or zero-shot.

  python -m wsvad_jax.evaluate --workdir runs/dsanet-demo-0
  python -m wsvad_jax.evaluate --config configs/dsanet.py:ucf --checkpoint DIR \\
      --workdir OUT
  python -m wsvad_jax.evaluate --config dsanet:demo --checkpoint runs/dsanet-demo-0 \\
      --card other_words.json --workdir OUT
  python -m wsvad_jax.evaluate --config configs/zero_shot.py:demo --workdir OUT
  python -m wsvad_jax.evaluate --with RUN --with RUN --workdir OUT

Inputs: the workdir of a finished training, or a recipe and a model folder (WORKDIR/model
or the output of `python -m wsvad_jax.convert`). The test features must have
been extracted with the same settings as the training features. If the dataset has changed
since the training, another --workdir is required, so that the earlier results stay valid.
The recipe zero_shot needs no model folder: CLIP compares features with the class prompts.

Events are found by the rules of `detect`, whose flags change them: --high, --low and the
others. They change the metrics of events alone.

--card scores VadCLIP or DSANet with other class words: the prompts of a card.json, which
the model's text tower reads in place of the training's. The weights stay as they are.

--with averages the ranks that finished runs give the snippets of their test set. Ranks are
taken over the whole test set, so this rates a test set and detects nothing.

Outputs, in the workdir:
  results.json   every metric
  scores.npz     VIDEO/anomaly [T] and VIDEO/classes [T, C] of each test video, and
                 VIDEO/events: start and end in frames, score
  curves.json    ROC, precision-recall and calibration (`wsvad_jax.metrics.curves`)
  report.png     score curves over the true anomalies
  data.json      hashes of the scored data, if the workdir has no training run
  config.json    the recipe, of zero_shot
"""

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wsvad_jax.detection import rule_flags
from wsvad_jax.experiment.config import load_config
from wsvad_jax.utils import flags, program
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

ENSEMBLE_FLAGS = {"members", "smooth", "workdir", "data_dir", "quiet", "json"}
TOGETHER = "pass --config and --checkpoint, the folder of a model, together"


def _parser() -> flags.Parser:
    parser = flags.Parser(
        prog="python -m wsvad_jax.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Other options: --config.KEY=VALUE changes a key of the recipe.",
    )

    # The run, or a model and the data that it scores.
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument(
        "--checkpoint", metavar="DIR|NAME",
        help="a model folder, a workdir, or USER/NAME of the hub",
    )  # fmt: skip
    parser.add_argument("--config", help="a recipe, FILE[:DATASET]")
    parser.add_argument(
        "--card",
        type=pathlib.Path,
        metavar="FILE",
        help="card.json with other prompts or classes for the model",
    )
    _add_ensemble_flags(parser)
    parser.add_argument(
        "--data_dir", help="folder of prepared datasets (default: the cache)"
    )

    parser.add_argument(
        "--force",
        action="store_true",
        help="score features made in another way than those of the training; "
        "results.json says so",
    )
    parser.add_argument(
        "--fps",
        type=float,
        help="frames per second of test videos whose features and card state none; "
        "event metrics then have times",
    )
    rule_flags.add_rule_flags(parser)
    flags.add_output_flags(parser)
    parser.add_argument("--multihost", action="store_true", help=program.MULTIHOST_HELP)
    return parser


def _add_ensemble_flags(parser: flags.Parser) -> None:
    """Adds the flags of a rank ensemble."""
    parser.add_argument(
        "--with",
        dest="members",
        action="append",
        default=[],
        metavar="RUN",
        help="workdir of a finished run; two or more make a rank ensemble",
    )
    parser.add_argument(
        "--smooth",
        type=flags.count,
        metavar="SNIPPETS",
        help="odd width of a moving average over the ranks of --with (default: none)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    parser = _parser()
    known, rest = parser.parse_known_args(argv)
    if known.members:
        return _ensemble(known, rest, flags.given(parser, argv))
    if known.smooth is not None:
        parser.error("--smooth requires --with")
    rules = rule_flags.rules_of(known, parser.seen)
    if known.low is not None:
        passed = flags.given(parser, argv)
        flags.refuse(passed, rule_flags.RELATIVE, "--low, which fixes where events end")
    flags.check_fps(known.fps)
    if known.checkpoint and not known.config:
        parser.error(TOGETHER)
    if known.card and not known.config:
        parser.error("--card requires --config, --checkpoint and another --workdir")

    from wsvad_jax.evaluation.results import evaluate_model, saved_config

    # The first use of JAX: the other processes must be known before it.
    program.start_hosts(known.multihost)
    if known.config:
        config = load_config(
            [f"--config={known.config}", *rest],
            known.data_dir,
            flags=flags.options(parser),
            other_data=True,  # a model may be scored on the videos of another dataset
        )
    else:
        config = saved_config(known.workdir, rest)

    checkpoint = _checkpoint_of(known, config, parser)
    where = checkpoint, known.workdir, known.data_dir
    with program.output(quiet=known.quiet, json_only=known.json) as output:
        output.value = evaluate_model(
            config,
            *where,
            force=known.force,
            card=known.card,
            rules=rules,
            fps=known.fps,
        )
    return 0


def _checkpoint_of(
    known: argparse.Namespace, config: "ConfigDict", parser: flags.Parser
) -> str | None:
    """Returns where the weights are; refuses flags that don't go together."""
    from wsvad_jax.experiment.build import get_model_spec

    checkpoint = known.checkpoint
    if get_model_spec(config).is_trained:
        if known.config and not checkpoint:
            parser.error(TOGETHER)
        if known.config and (known.workdir / "config.json").is_file():
            raise InputError(
                f"{known.workdir} holds a training, whose results would be replaced; "
                "choose another --workdir"
            )
        checkpoint = checkpoint or str(known.workdir / "model")
    elif checkpoint:
        raise InputError(
            f"--checkpoint {checkpoint}: {config.model_name} has no weights; leave the "
            "flag out"
        )
    return checkpoint


def _ensemble(
    known: argparse.Namespace, rest: Sequence[str], passed: Mapping[str, str]
) -> int:
    """Scores a rank ensemble; returns the exit code."""
    from wsvad_jax.evaluation.rank_ensemble import evaluate_ensemble

    # What changes how a model scores, or what counts as an event, would go unread.
    flags.refuse(passed, passed.keys() - ENSEMBLE_FLAGS, "--with")
    if rest:
        raise InputError(
            f"unexpected argument {rest[0]!r}; --with scores finished runs"
        )

    with program.output(quiet=known.quiet, json_only=known.json) as output:
        output.value = evaluate_ensemble(
            known.members, known.workdir, known.data_dir, width=known.smooth or 1
        )
    return 0


if __name__ == "__main__":
    program.run(main, resumes=False)
