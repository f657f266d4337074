"""Measures speed, and makes the tables of numbers that anyone can make again.

  python -m wsvad_jax.benchmark speed --models dsanet,vadclip --output speed.json
  python -m wsvad_jax.benchmark repro --models all --datasets demo --seeds 5 \\
      --protocol clean,paper --output results
  python -m wsvad_jax.benchmark aot --topology v5e:2x4 --output aot.json

speed: times of each recipe, on synthetic features, training, scoring, the evaluation of
a test set, the reading of batches from a cold file and training from that file, and of
the image tower the way from a video file to features, beside a matrix product in the
same run. Inputs: the recipes' models and sizes (--batch_size, --length, --width; by
default those of UCF-Crime's recipe). Outputs: tables, and with --output one JSON file;
--profile DIR writes traces of training; --check FILE compares with an earlier file, by
the ratio to the matrix product.

repro: runs or resumes every model on every dataset, with every seed and protocol.
Outputs: workdirs in --runs, and DIR/DATASET/MODEL/PROTOCOL/seedN.json with a summary of
the seeds beside them, which `python -m wsvad_jax.report DIR` turns into tables. With
--ablations, the rows of the papers' ablations too, in DIR/ROW/DATASET/….

aot: compiles training and scoring of each recipe, at the published batch, for TPUs that
need not be there (package libtpu). Outputs: a table of memory, work and messages a chip
for each topology, and with --output one JSON file; the exit code is 1 if a program does
not fit a chip.
"""

import argparse
import importlib.util
import itertools
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from wsvad_jax import cli, flags
from wsvad_jax.apart import apart
from wsvad_jax.errors import InputError
from wsvad_jax.files import read_json, write_json

WORKS = ("training", "scoring", "evaluation", "reading", "feeding", "extraction")
PARTS = {  # of a work, measured alone
    "decode_s": "decode alone",
    "encode_s": "encode alone",
    "resident_s": "resident batch",
}
MODELS = ("mil_ranking", "clip_tsa", "vadclip", "dsanet")
COMPILED = ("ucf", "xd")  # datasets with sizes of their own
SLOWER = 1.2  # times, from which --check complains


def chosen(text: str, known: Sequence[str], flag: str) -> list[str]:
    """Returns the names in 'a,b', or all of them for 'all'.

    Raises:
      InputError: a name that is not among `known`.
    """
    names = list(known) if text == "all" else [n.strip() for n in text.split(",")]
    for name in names:
        if name not in known:
            raise InputError(f"{flag} {text}: {name!r} is none of {', '.join(known)}")
    return list(dict.fromkeys(names))


def repro(
    models: Sequence[str],
    datasets: Sequence[str],
    seeds: str,
    protocols: Sequence[str],
    output: pathlib.Path,
    runs: pathlib.Path,
    *,
    data_dir: str | None = None,
    changes: Sequence[str] = (),
    together: bool = False,
    ablations: bool = False,
) -> list[pathlib.Path]:
    """Runs or resumes the grid; returns the files of the finished runs.

    Args:
      models: recipes, by name.
      datasets: as a recipe takes them.
      seeds: how many, as '5', or which, as '0,1,2' or '0..4'.
      protocols: 'clean', 'paper' or both.
      output: folder of the collected results.
      runs: folder of the workdirs.
      data_dir: where prepared datasets lie or are made.
      changes: flags --config.KEY=VALUE for every run.
      together: trains a recipe's seeds as one program.
      ablations: of each model its ablation's rows as well, each in a folder of its own.
    """
    from wsvad_jax.ablations import rows
    from wsvad_jax.runs import collect, find_runs
    from wsvad_jax.train import run_name, train_seeds

    grid = [
        (row, [f"--config={m}:{d}", f"--config.protocol={p}", *flags, *changes])
        for d in datasets
        for m in models
        for row, flags in (rows(m) if ablations else {"": ()}).items()
        for p in protocols
    ]
    configs = [(row, cli.load_config(flags, data_dir)) for row, flags in grid]
    written = []
    for i, (row, config) in enumerate(configs, 1):
        name = "-".join(filter(None, (run_name(config), row, config.protocol)))
        print(f"{name}, {i} of {len(grid)}", flush=True)
        train_seeds(config, _which(seeds), runs / name, data_dir, together=together)
        found, summaries, _ = find_runs([runs / name])
        # After every recipe, so that what is done is there when the rest is stopped.
        written += collect(found, output / row, summaries)
    return written


def _which(seeds):
    """Seeds as `train_seeds` takes them: '5' stands for 0..4."""
    if not seeds.strip().isdecimal():
        return seeds
    if int(seeds) < 1:
        raise InputError(f"--seeds {seeds}: expected at least one seed")
    return f"0..{int(seeds) - 1}"


def speed(
    models: Sequence[str],
    sizes: dict[str, int],
    steps: int,
    *,
    works: Sequence[str] = WORKS,
    videos: int = 290,
    film: str = "",
    profile: str = "",
    changes: Sequence[str] = (),
) -> dict[str, Any]:
    """Measures each model's works, each in a process of its own.

    Returns {'versions', 'device', 'models': {name: {work: measured}}}; extraction, which
    is of no model, stands under 'clip'.

    Args:
      models: recipes, by name.
      sizes: `batch_size`, `length`, `width`; what is missing is the recipe's.
      steps: timed ones, of training and scoring; a third of them of the rest.
      works: some of WORKS.
      videos: of the test set.
      film: file for the extraction, '' for a synthetic one.
      profile: folder for traces, '' for none.
      changes: flags --config.KEY=VALUE for every recipe.
    """
    found: dict[str, Any] = {"models": {}}
    # A process each: memory and compiled programs of one don't count for the next.
    grid = [(name, w) for name in models for w in works if w != "extraction"]
    if "extraction" in works:
        grid.append((models[0], "extraction"))
    for name, work in grid:
        print(f"{name}, {work}", file=sys.stderr, flush=True)
        arguments = name, work, sizes, steps, videos, film, profile, changes
        about, measured = apart(_measure, *arguments)
        found = about | found
        of = "clip" if work == "extraction" else name
        found["models"].setdefault(of, {})[work] = measured
    return found


def _measure(
    name: str,
    work: str,
    sizes: dict[str, int],
    steps: int,
    videos: int,
    film: str,
    profile: str,
    changes: Sequence[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    import jax

    from wsvad_jax import speed as measure
    from wsvad_jax import throughput
    from wsvad_jax.evaluate import device, versions

    jax.config.update("jax_enable_compilation_cache", False)  # compiling is timed
    config = cli.load_config([f"--config={name}:ucf", *changes])
    length = config.data.length or 32
    own = {"batch_size": config.paper.batch_size, "length": length, "width": 512}
    at = measure.Sizes(**{**own, **sizes}, classes=14)
    about = {"versions": versions(), "device": device()}
    few = -(-steps // 3)
    if work == "training":
        trace = str(pathlib.Path(profile) / name) if profile else ""
        return about, measure.measure_training(config, at, steps=steps, profile=trace)
    if work == "scoring":
        return about, measure.measure_scoring(config, at, steps=steps)
    if work == "evaluation":
        return about, throughput.measure_evaluation(
            config, at, videos=videos, repeats=few
        )
    if work == "reading":
        return about, throughput.measure_reading(config, at, repeats=few)
    if work == "feeding":
        return about, throughput.measure_feeding(config, at, repeats=few)
    return about, throughput.measure_extraction(config, film=film, repeats=few)


def table(found: dict[str, Any]) -> str:
    """Returns the measurements as plain text tables."""
    from wsvad_jax.writer import aligned

    heads = ["model", "work", "sizes", "compile s", "step s", "snippets/s"]
    steps = [[*heads, "GFLOP", "XLA's", "GFLOP/s", "of product", "memory MB"]]
    rest = [["model", "work", "amount", "s", "a second", "memory MB"]]
    for name, works in found["models"].items():
        for work, m in works.items():
            seconds = f"{m['median_s']:.4g} ({m['low_s']:.4g}-{m['high_s']:.4g})"
            if "unit" in m:
                rate = m["amount"] / m["median_s"]
                memory = f"{m['peak_bytes']['process'] / 1e6:.0f}"
                amount = f"{m['amount']} {m['unit']}"
                rest.append([name, work, amount, seconds, f"{rate:.4g}", memory])
                for part, words in PARTS.items():
                    if part in m:
                        row = words, amount, f"{m[part]:.4g}"
                        rest.append([name, *row, f"{m['amount'] / m[part]:.4g}", ""])
                if "idle_share" in m:
                    share = f"{100 * m['idle_share']:.1f} % of feeding"
                    rest.append([name, "waiting", share, "", "", ""])
                continue
            snippets = m["batch_size"] * m["crops"] * m["length"] / m["median_s"]
            steps.append(
                [
                    name,
                    work,
                    f"{m['batch_size']}x{m['length']}x{m['width']}",
                    f"{m['compile_s']:.1f}",
                    seconds,
                    f"{snippets:.0f}",
                    f"{m['flop_products'] / 1e9:.2f}",
                    f"{m['flop_xla'] / 1e9:.2f}",
                    f"{m['flop_per_s'] / 1e9:.1f}",
                    f"{100 * m['share_of_product']:.0f} %",
                    f"{m['peak_bytes'].get('temporary', 0) / 1e6:.0f}",
                ]
            )
    lines = [aligned(rows) for rows in (steps, rest) if len(rows) > 1]
    return "\n".join([found["device"], *itertools.chain.from_iterable(lines)])


def compare(found: dict[str, Any], earlier: dict[str, Any], source: str) -> list[str]:
    """Says what takes longer than in `earlier`, in units of the matrix product.

    Raises:
      InputError: `earlier` is not of this program, or of other sizes.
    """
    complaints = []
    sizes = ("batch_size", "length", "width", "crops", "dtype", "amount")
    for name, works in found["models"].items():
        for work, m in works.items():
            try:
                old = earlier["models"][name][work]
                now, then = (x["median_s"] * x["product_flop_per_s"] for x in (m, old))
            except (KeyError, TypeError):
                raise InputError(
                    f"{source}: it holds no {work} of {name}; write it anew with "
                    "--output"
                ) from None
            for key in sizes:
                if m.get(key) != old.get(key):
                    raise InputError(
                        f"{source}: its {work} of {name} has {key} {old.get(key)}, not "
                        f"{m.get(key)}; measure the same sizes"
                    )
            if now > SLOWER * then:
                complaints.append(f"{name}, {work}: {now / then:.2f} times as long")
    return complaints


def _parser() -> argparse.ArgumentParser:
    parser = flags.Parser(
        prog="python -m wsvad_jax.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("speed", help="time training and scoring")
    one.add_argument("--models", default="all", help="as dsanet,vadclip, or all")
    for size in ("batch_size", "length", "width"):
        one.add_argument(
            f"--{size}", type=flags.count, help="the recipe's where left out"
        )
    one.add_argument("--steps", type=flags.count, default=10, help="timed steps")
    one.add_argument("--works", default="all", help=f"of {','.join(WORKS)}, or all")
    one.add_argument("--videos", type=flags.count, help="of the test set (290)")
    one.add_argument("--film", default="", metavar="FILE", help="video to extract")
    one.add_argument("--output", type=pathlib.Path, metavar="FILE", help="JSON")
    one.add_argument("--profile", default="", metavar="DIR", help="for traces")
    one.add_argument("--check", type=pathlib.Path, metavar="FILE", help="earlier JSON")
    two = parts.add_parser("repro", help="run a grid of recipes")
    two.add_argument("--models", default="all", help="as dsanet,vadclip, or all")
    two.add_argument("--datasets", default="demo", help="names or prepared folders")
    two.add_argument("--seeds", default="5", help="how many, or which: 0,1,2 or 0..4")
    two.add_argument("--protocol", default="clean", help="clean, paper or both")
    two.add_argument("--output", type=pathlib.Path, required=True, metavar="DIR")
    two.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/repro"))
    two.add_argument("--data_dir", help="where prepared datasets lie or are made")
    two.add_argument("--together", action="store_true", help="the seeds as one program")
    two.add_argument("--ablations", action="store_true", help="the papers' rows too")
    three = parts.add_parser("aot", help="compile for TPUs that are not there")
    three.add_argument("--topology", default="v5e:2x4", help="as v5e:2x4,v4:2x2x2")
    three.add_argument("--models", default="all", help="as dsanet,vadclip, or all")
    three.add_argument("--datasets", default="all", help="ucf, xd or all")
    three.add_argument("--output", type=pathlib.Path, metavar="FILE", help="JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    known, rest = parser.parse_known_args(argv)
    models = chosen(known.models, MODELS, "--models")
    if known.part == "repro":
        from wsvad_jax.ranges import PROTOCOLS

        protocols = chosen(known.protocol, PROTOCOLS, "--protocol")
        places = known.datasets.split(","), known.seeds, protocols
        repro(
            models,
            *places,
            known.output,
            known.runs,
            data_dir=known.data_dir,
            changes=rest,
            together=known.together,
            ablations=known.ablations,
        )
        place = known.output.absolute()
        print(f"tables: {flags.command('report', place, '--output', place / 'report')}")
        return 0
    if known.part == "aot" and rest:
        parser.error(f"unexpected argument {rest[0]!r}")
    speed = known.part == "speed"
    return _speed(models, known, rest) if speed else _aot(models, known)


def _speed(
    models: Sequence[str], known: argparse.Namespace, changes: Sequence[str]
) -> int:
    sizes = ("batch_size", "length", "width")
    works = chosen(known.works, WORKS, "--works")
    of = {"videos": "evaluation", "film": "extraction", "profile": "training"}
    unread = {
        k: f"--{k}" for k, w in of.items() if getattr(known, k) and w not in works
    }
    flags.refuse(unread, unread, f"--works {known.works}")
    earlier = read_json(known.check) if known.check else None
    given = {k: v for k in sizes if (v := getattr(known, k)) is not None}
    found = speed(
        models,
        given,
        known.steps,
        works=works,
        videos=known.videos or 290,
        film=known.film,
        profile=known.profile,
        changes=changes,
    )
    print(table(found))
    if known.output:
        write_json(known.output, found)
    if earlier is None:
        return 0
    slower = compare(found, earlier, str(known.check))
    print("\n".join(slower) or "as fast as before")
    return 1 if slower else 0


def _aot(models: Sequence[str], known: argparse.Namespace) -> int:
    named = [name.strip() for name in known.topology.split(",")]
    if not all(named):
        raise InputError("--topology has an empty name; expected a name like v5e:2x4")
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(f"aot needs the TPU compiler: {flags.install('aot')}")
    from wsvad_jax import aot

    works = ("training", "scoring")
    grid = models, chosen(known.datasets, COMPILED, "--datasets"), works
    cases = [aot.Case(*names) for names in itertools.product(*grid)]
    # In processes of their own: the compiler stays in one that it was loaded into.
    os.environ.update(aot.ENVIRONMENT)
    found = []
    for topology in named:
        found.append(apart(aot.compile_all, topology, cases))
        print("\n".join(aot.table(found[-1])), flush=True)
    if known.output:
        write_json(known.output, found)
    fitting = all(map(aot.fits, found))
    print("every program fits a chip" if fitting else "not every program fits a chip")
    return 0 if fitting else 1


if __name__ == "__main__":
    cli.run(main)
