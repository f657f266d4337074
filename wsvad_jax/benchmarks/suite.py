"""Times the steps of each recipe, prints them as tables, and compares with earlier timings."""

import itertools
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from wsvad_jax.experiment.config import load_config
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.processes import run_in_subprocess

WORKLOADS = ("training", "scoring", "evaluation", "reading", "feeding", "extraction")


PART_NAMES = {  # of a work, measured alone
    "decode_s": "decode alone",
    "encode_s": "encode alone",
    "resident_s": "resident batch",
}


TPU_DATASETS = ("ucf", "xd")  # datasets with sizes of their own


SLOWDOWN_LIMIT = 1.2  # times, from which --check complains


def speed(
    models: Sequence[str],
    sizes: dict[str, int],
    steps: int,
    *,
    workloads: Sequence[str] = WORKLOADS,
    videos: int = 290,
    video: str = "",
    profile: str = "",
    changes: Sequence[str] = (),
) -> dict[str, Any]:
    """Measures each model's workloads, each in a process of its own.

    Returns {'versions', 'device', 'models': {name: {work: measured}}}; extraction, which
    is of no model, stands under 'clip'.

    Args:
      models: recipes, by name.
      sizes: `batch_size`, `length`, `width`; what is missing is the recipe's.
      steps: timed ones, of training and scoring; a third of them of the rest.
      workloads: names from WORKLOADS.
      videos: of the test set.
      video: file for the extraction, '' for a synthetic one.
      profile: folder for traces, '' for none.
      changes: flags --config.KEY=VALUE for every recipe.
    """
    found: dict[str, Any] = {"models": {}}
    # A process each: memory and compiled programs of one don't count for the next.
    grid = [(name, w) for name in models for w in workloads if w != "extraction"]
    if "extraction" in workloads:
        grid.append((models[0], "extraction"))
    for name, work in grid:
        print(f"{name}, {work}", file=sys.stderr, flush=True)
        arguments = name, work, sizes, steps, videos, video, profile, changes
        about, measured = run_in_subprocess(_measure, *arguments)
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
    video: str,
    profile: str,
    changes: Sequence[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    import jax

    from wsvad_jax.benchmarks import input_pipeline
    from wsvad_jax.benchmarks import step_time as measure
    from wsvad_jax.evaluation.results import device, versions

    jax.config.update("jax_enable_compilation_cache", False)  # compiling is timed
    config = load_config([f"--config={name}:ucf", *changes])
    length = config.data.length or 32
    own = {"batch_size": config.paper.batch_size, "length": length, "width": 512}
    at = measure.BenchmarkShapes(**{**own, **sizes}, classes=14)
    about = {"versions": versions(), "device": device()}
    few = -(-steps // 3)
    if work == "training":
        trace = str(pathlib.Path(profile) / name) if profile else ""
        return about, measure.measure_training(config, at, steps=steps, profile=trace)
    if work == "scoring":
        return about, measure.measure_scoring(config, at, steps=steps)
    if work == "evaluation":
        return about, input_pipeline.measure_evaluation(
            config, at, videos=videos, repeats=few
        )
    if work == "reading":
        return about, input_pipeline.measure_reading(config, at, repeats=few)
    if work == "feeding":
        return about, input_pipeline.measure_feeding(config, at, repeats=few)
    return about, input_pipeline.measure_extraction(config, video=video, repeats=few)


def table(found: dict[str, Any]) -> str:
    """Returns the measurements as plain text tables."""
    from wsvad_jax.utils.text import aligned

    heads = ["model", "work", "sizes", "compile s", "step s", "snippets/s"]
    steps = [[*heads, "GFLOP", "XLA's", "GFLOP/s", "% of matmul rate", "memory MB"]]
    rest = [["model", "work", "amount", "s", "a second", "memory MB"]]
    for name, workloads in found["models"].items():
        for work, m in workloads.items():
            seconds = f"{m['median_s']:.4g} ({m['low_s']:.4g}-{m['high_s']:.4g})"
            if "unit" in m:
                rate = m["amount"] / m["median_s"]
                memory = f"{m['peak_bytes']['process'] / 1e6:.0f}"
                amount = f"{m['amount']} {m['unit']}"
                rest.append([name, work, amount, seconds, f"{rate:.4g}", memory])
                for part, words in PART_NAMES.items():
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
    for name, workloads in found["models"].items():
        for work, m in workloads.items():
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
            if now > SLOWDOWN_LIMIT * then:
                complaints.append(f"{name}, {work}: {now / then:.2f} times as long")
    return complaints
