"""Trains a recipe and scores the test videos.

  python -m wsvad_jax.train --config configs/dsanet.py
  python -m wsvad_jax.train --config configs/dsanet.py:ucf --data_dir DIR \\
      --workdir runs/ucf --config.seed=1 --config.protocol=paper
  python -m wsvad_jax.train --config configs/dsanet.py --quick       a first look
  python -m wsvad_jax.train --config configs/dsanet.py --seeds 0,1,2
  python -m wsvad_jax.train --config configs/clip_tsa.py --seeds 0..7 --together

--quick trains a small part of the steps, whatever the recipe. Its results say so, its
workdir ends in -quick, and no table mixes it with full runs (protocol quick).

Input: a recipe, FILE[:DATASET]. DATASET is demo (made on the spot), ucf, xd,
shanghaitech, msad, ubnormal or the folder of a prepared dataset.

Outputs, in the workdir. Its default is runs/MODEL-DATASET-SEED, with -paper at its end
for protocol paper.
  model/          the selected weights
  MODEL_CARD.md   what the model is, its metrics and its limits
  results.json    all metrics
  scores.npz      scores of each test video
  report.png      score curves of test videos, and loss curves
  curves.json     ROC and other curves
  metrics.jsonl   training metrics; also in tensorboard/
  checkpoints/    training state, for resuming; removed once the run is finished,
                  unless --keep_checkpoints is passed
  config.json     the recipe with all its values
  run.json        commit, overrides, time and memory
  data.json       hashes of the data

The same command resumes from the last checkpoint, or shows the results of a finished run.
Ctrl-C saves a checkpoint first; a second Ctrl-C stops at once.
If the dataset has changed since the run began, it does neither and says so. --restart
moves the run to WORKDIR/previous-N and trains from step 0. To resume the new run, omit
--restart.

With --seeds, each seed is a separate run: in WORKDIR/seedN, or in its default workdir.
Mean, standard deviation and bootstrap intervals over test videos are printed and written
to WORKDIR/summary.json (default: runs/MODEL-DATASET-PROTOCOL-seeds.json). Finished seeds
are skipped. --together trains all unfinished seeds in one compiled computation, with the
training split on the device. Each seed has the files of a single run.
"""

import argparse
import pathlib
from collections.abc import Sequence

from wsvad_jax.experiment.config import load_config
from wsvad_jax.training.run import default_workdir, train_and_evaluate, train_seeds
from wsvad_jax.utils import flags, program
from wsvad_jax.utils.errors import InputError


def _parser() -> flags.Parser:
    parser = flags.Parser(
        prog="python -m wsvad_jax.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Other options: --config.KEY=VALUE changes a key of the recipe, as "
        "--config.seed=1.",
    )

    parser.add_argument("--config", required=True, help="a recipe, FILE[:DATASET]")
    parser.add_argument("--workdir", type=pathlib.Path, help="where results go")
    parser.add_argument(
        "--data_dir", help="folder of prepared datasets (default: the cache)"
    )

    parser.add_argument(
        "--quick",
        action="store_true",
        help="a first look in a minute or two: few steps, small batches, one seed",
    )

    # Several seeds of one recipe, one after the other or as one program.
    parser.add_argument(
        "--seeds",
        nargs="?",
        const="",
        help="one run per seed: 0,1,2 or 0..4; without a value, the recipe's list",
    )
    parser.add_argument(
        "--together", action="store_true", help="the seeds of --seeds in one program"
    )

    parser.add_argument(
        "--restart",
        action="store_true",
        help="move the run aside that the workdir holds, and train from step 0",
    )
    parser.add_argument(
        "--keep_checkpoints",
        action="store_true",
        help="keep the checkpoints of a finished run, which scoring doesn't need",
    )
    flags.add_output_flags(parser)
    parser.add_argument("--multihost", action="store_true", help=program.MULTIHOST_HELP)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    parser = _parser()
    known, rest = parser.parse_known_args(argv)

    # The first use of JAX: the other processes must be known before it.
    program.start_hosts(known.multihost)
    config = load_config(
        [f"--config={known.config}", *rest],
        known.data_dir,
        flags=flags.options(parser),
        quick=known.quick,
    )

    # Flags that contradict each other, before any data is opened.
    if known.quick and known.seeds is not None:
        raise InputError("--quick trains one seed; leave --seeds or --quick out")
    if known.together and known.seeds is None:
        raise InputError("--together requires --seeds, such as --seeds 0..7")
    if known.seeds is not None and _sets_seed(rest):
        raise InputError("--seeds and --config.seed both choose the seed; pass one")

    with program.output(quiet=known.quiet, json_only=known.json) as output:
        if known.seeds is None:
            output.value = train_and_evaluate(
                config,
                known.workdir or default_workdir(config),
                known.data_dir,
                restart=known.restart,
                keep_checkpoints=known.keep_checkpoints,
            )
        else:
            output.value = train_seeds(
                config,
                known.seeds,
                known.workdir,
                known.data_dir,
                together=known.together,
                restart=known.restart,
                keep_checkpoints=known.keep_checkpoints,
            )
    return 0


def _sets_seed(arguments: Sequence[str]) -> bool:
    return any(a.partition("=")[0] == "--config.seed" for a in arguments)


if __name__ == "__main__":
    program.run(main)
