"""Runs the speed benchmarks, formats them as tables, compares them with earlier ones."""

import itertools
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from wsvad_jax.benchmarks.speed_tables import (
    LIVE_TITLES,
    TOWER_TITLES,
    live_rows,
    tower_rows,
)
from wsvad_jax.benchmarks.start_up import start_up_tables
from wsvad_jax.experiment.config import load_config
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json
from wsvad_jax.utils.processes import run_in_subprocess
from wsvad_jax.utils.text import aligned

WORKLOADS = (
    *("training", "scoring", "evaluation", "reading", "feeding"),
    *("live", "extraction", "towers", "start_up"),
)
MODEL_FREE = ("extraction", "towers", "start_up")  # measured once, for all models
# Times of a step within a workload, measured alone: key → name in the table.
STEP_NAMES = {
    "decode_s": "decode alone",
    "pictures_s": "pictures alone",
    "encode_s": "encode alone",
    "resident_s": "resident batch",
}
TPU_DATASETS = ("ucf", "xd")  # datasets whose shapes are compiled for TPUs
SLOWDOWN_LIMIT = 1.2  # ratio of times above which --check complains
COMPARED_SHAPES = ("batch_size", "length", "width", "crops", "dtype", "amount")


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
    """Times workloads of each model, each in a separate process.

    Args:
      models: recipes, by name.
      sizes: `batch_size`, `length`, `width`; missing ones are the recipe's.
      steps: number of timed steps of training and scoring; a third for the others.
      workloads: names from WORKLOADS.
      videos: number of videos of the test set.
      video: video file for the extraction, '' for a synthetic one.
      profile: folder for traces, '' for none.
      changes: flags --config.KEY=VALUE for every recipe.

    Returns:
      {'versions', 'device', 'models': {name: {workload: measurements}}}. Extraction
      and image towers depend on no model and are under 'clip'; so does the start of
      programs, which is under 'start_up' beside 'models'.
    """
    report: dict[str, Any] = {"models": {}}

    grid = [(name, w) for name in models for w in workloads if w not in MODEL_FREE]
    grid += [(models[0], w) for w in workloads if w in MODEL_FREE]

    for name, workload in grid:
        print(f"{name}, {workload}", file=sys.stderr, flush=True)
        # In a fresh process, memory and compiled programs of the last don't count.
        about, measurements = run_in_subprocess(
            _measure, name, workload, sizes, steps, videos, video, profile, changes
        )
        report = about | report
        if workload == "start_up":
            report["start_up"] = measurements
            continue
        section = "clip" if workload in MODEL_FREE else name
        report["models"].setdefault(section, {})[workload] = measurements
    return report


def speed_benchmark(
    models: Sequence[str],
    sizes: dict[str, int],
    steps: int,
    *,
    output: pathlib.Path | None = None,
    earlier_file: pathlib.Path | None = None,
    **options: Any,
) -> tuple[dict[str, Any], bool]:
    """Times workloads, prints tables, and compares with earlier measurements.

    Args:
      models, sizes, steps: as `speed` takes them.
      output: JSON file to write.
      earlier_file: JSON file of an earlier call, to compare with.
      **options: keyword arguments of `speed`.

    Returns:
      The measurements, and whether none is slower than the earlier one.
    """
    # The file is read first: one that is missing must not cost minutes.
    earlier = read_json(earlier_file) if earlier_file else None

    report = speed(models, sizes, steps, **options)
    print(table(report))
    if output:
        write_json(output, report)
    if earlier is None:
        return report, True

    slower = compare(report, earlier, str(earlier_file))
    print("\n".join(slower) or "as fast as before")
    return report, not slower


def _measure(
    name: str,
    workload: str,
    sizes: dict[str, int],
    steps: int,
    videos: int,
    video: str,
    profile: str,
    changes: Sequence[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns versions and device, and the measurements of one workload."""
    import jax

    from wsvad_jax.benchmarks import (
        image_towers,
        input_pipeline,
        live_delay,
        start_up,
        step_time,
    )
    from wsvad_jax.evaluation.results import device, versions

    jax.config.update("jax_enable_compilation_cache", False)  # compiling is timed

    config = load_config([f"--config={name}:ucf", *changes])
    shapes = step_time.BenchmarkShapes(**_default_sizes(config) | sizes, classes=14)

    trace = str(pathlib.Path(profile) / name) if profile else ""
    repeats = -(-steps // 3)  # the other workloads take seconds each

    measure = {
        "training": lambda: step_time.measure_training(
            config, shapes, steps=steps, profile=trace
        ),
        "scoring": lambda: step_time.measure_scoring(config, shapes, steps=steps),
        "evaluation": lambda: input_pipeline.measure_evaluation(
            config, shapes, videos=videos, repeats=repeats
        ),
        "reading": lambda: input_pipeline.measure_reading(
            config, shapes, repeats=repeats
        ),
        "feeding": lambda: input_pipeline.measure_feeding(
            config, shapes, repeats=repeats
        ),
        "live": lambda: live_delay.measure_live(config, shapes),
        "extraction": lambda: input_pipeline.measure_extraction(
            config, video=video, repeats=repeats
        ),
        "towers": lambda: image_towers.measure_towers(repeats),
        "start_up": lambda: start_up.measure_start_up(repeats),
    }
    return {"versions": versions(), "device": device()}, measure[workload]()


def _default_sizes(config: Any) -> dict[str, int]:
    """Returns the sizes of a recipe's batch for UCF-Crime."""
    return {
        "batch_size": config.paper.batch_size,
        "length": config.data.length or 32,
        "width": 512,
    }


def table(report: dict[str, Any]) -> str:
    """Formats the measurements as plain text tables."""
    # Steps of a fixed shape, and workloads of some amount of data.
    steps = [["model", "work", "sizes", "compile s", "step s", "snippets/s"]]
    steps[0] += ["GFLOP", "XLA's", "GFLOP/s", "% of matmul rate", "memory MB"]
    amounts = [["model", "work", "amount", "s", "per second", "memory MB"]]
    delays, towers = [list(LIVE_TITLES)], [list(TOWER_TITLES)]

    for name, workloads in report["models"].items():
        for workload, m in workloads.items():
            if workload == "live":
                delays += live_rows(name, m["live"])
            elif workload == "towers":
                towers += tower_rows(m["towers"])
            elif "unit" in m:
                amounts += _amount_rows(name, workload, m)
            else:
                steps.append(_step_row(name, workload, m))

    lines = [aligned(rows) for rows in (steps, amounts) if len(rows) > 1]
    lines += [aligned(delays, left=(0, 1))] if len(delays) > 1 else []
    lines += [aligned(towers, left=(0, 2))] if len(towers) > 1 else []
    if "start_up" in report:
        lines.append(start_up_tables(report["start_up"]))
    return "\n".join([report["device"], *itertools.chain.from_iterable(lines)])


def _step_row(name: str, workload: str, m: dict[str, Any]) -> list[str]:
    snippets = m["batch_size"] * m["crops"] * m["length"] / m["median_s"]
    return [
        name,
        workload,
        f"{m['batch_size']}x{m['length']}x{m['width']}",
        f"{m['compile_s']:.1f}",
        _seconds(m),
        f"{snippets:.0f}",
        f"{m['flop_products'] / 1e9:.2f}",
        f"{m['flop_xla'] / 1e9:.2f}",
        f"{m['flop_per_s'] / 1e9:.1f}",
        f"{100 * m['share_of_product']:.0f} %",
        f"{m['peak_bytes'].get('temporary', 0) / 1e6:.0f}",
    ]


def _amount_rows(name: str, workload: str, m: dict[str, Any]) -> list[list[str]]:
    amount = f"{m['amount']} {m['unit']}"
    memory = f"{m['peak_bytes']['process'] / 1e6:.0f}"
    rate = f"{m['amount'] / m['median_s']:.4g}"
    rows = [[name, workload, amount, _seconds(m), rate, memory]]

    for key, title in STEP_NAMES.items():
        if key in m:
            rate = f"{m['amount'] / m[key]:.4g}"
            rows.append([name, title, amount, f"{m[key]:.4g}", rate, ""])
    if "idle_share" in m:
        waiting = f"{100 * m['idle_share']:.1f} % of feeding"
        rows.append([name, "waiting", waiting, "", "", ""])
    return rows


def _seconds(m: dict[str, Any]) -> str:
    """Returns the median time with its quartiles."""
    return f"{m['median_s']:.4g} ({m['low_s']:.4g}-{m['high_s']:.4g})"


def compare(report: dict[str, Any], earlier: dict[str, Any], source: str) -> list[str]:
    """Returns one sentence per workload that takes longer than in an earlier report.

    Times are compared in units of the matrix product, since a busy machine slows both.

    Args:
      report: measurements, of `speed`.
      earlier: content of an earlier JSON file.
      source: that file, for messages.

    Raises:
      InputError: `earlier` was not written by this program, or has other shapes.
    """
    complaints = []
    for name, workloads in report["models"].items():
        for workload, m in workloads.items():
            # The file may be of other models, or edited by hand.
            try:
                old = earlier["models"][name][workload]
                now, then = (x["median_s"] * x["product_flop_per_s"] for x in (m, old))
            except (KeyError, TypeError):
                raise InputError(
                    f"{source}: {workload} of {name} is missing; write the file again "
                    "with --output"
                ) from None

            # Times of other shapes don't compare.
            for key in COMPARED_SHAPES:
                if m.get(key) != old.get(key):
                    raise InputError(
                        f"{source}: {workload} of {name} has {key} {old.get(key)}, not "
                        f"{m.get(key)}; measure the same sizes"
                    )

            if now > SLOWDOWN_LIMIT * then:
                complaints.append(f"{name}, {workload}: {now / then:.2f} times as long")

    return complaints
