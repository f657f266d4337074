"""Prints which share of a step's matrix products XLA's fast CPU products take.

    python tests/support/fast_products.py --config dsanet:ucf --config.model.dtype=bfloat16

JAX 0.12 has such products, for bfloat16 as well. The share is of operations, with the
body of a loop counted once. Other products, with their shapes, are listed below it.
"""

import collections
import math
import re
import sys
from typing import Any

import jax

from wsvad_jax.benchmarks import step_time
from wsvad_jax.experiment.config import load_config
from wsvad_jax.parallel import mesh
from wsvad_jax.training import train_step

SHAPES = step_time.BenchmarkShapes(batch_size=8, length=32, width=512, classes=14)
FAST = "__ynn_fusion"  # XLA's name for products of its fast library
INSTRUCTION = re.compile(r"\s+(?:ROOT )?%(\S+) = (\w+)\[([\d,]*)\]\S* ([\w-]+)\((.*)$")
LISTED = 10


def products(program: str) -> dict[tuple[bool, str], float]:
    """Returns the operations of a compiled program's products: (fast, shapes) → FLOP."""
    fast = set(re.findall(rf"calls=%([\w.-]+)[^\n]*{FAST}", program))
    found: dict[tuple[bool, str], float] = collections.Counter()
    part, shapes = "", {}
    for line in program.splitlines():
        # A line that starts a computation: its name comes first, or after ENTRY.
        if line.endswith("{") and not line.startswith(" "):
            part, shapes = line.removeprefix("ENTRY ").split()[0].lstrip("%"), {}
        if not (match := INSTRUCTION.match(line)):
            continue

        name, dtype, sizes, operation, arguments = match.groups()
        shapes[name] = dtype, [int(n) for n in sizes.split(",") if n]
        if operation != "dot":
            continue
        left, right = (shapes[n] for n in re.findall(r"%([\w.-]+)", arguments)[:2])
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", arguments)
        assert contracted is not None
        summed = [left[1][int(i)] for i in contracted[1].split(",")]
        text = f"{left[0]}{left[1]} · {right[0]}{right[1]}"
        found[part in fast, text] += 2 * math.prod(shapes[name][1] + summed)
    return found


def training_program(arguments: list[str]) -> str:
    """Returns the compiled training step of a recipe as text."""
    config = load_config(arguments)
    network, state, step = step_time.build_training(config, SHAPES)
    batch = jax.device_put(
        step_time.synthetic_batch(SHAPES), mesh.batch_sharding(network.mesh)
    )
    program: Any = train_step.compile_host_step(step, network.mesh)
    lowered = program.lower(state, batch, network.text, jax.random.key(0))
    return lowered.compile().as_text()


if __name__ == "__main__":
    found = products(training_program(sys.argv[1:]))
    share = sum(n for (fast, _), n in found.items() if fast) / sum(found.values())
    print(f"JAX {jax.__version__}: {share:.1%} of the operations are fast products")
    others = sorted(
        ((n, s) for (fast, s), n in found.items() if not fast), reverse=True
    )
    for flop, shapes in others[:LISTED]:
        print(f"{flop / 1e9:8.3f} GFLOP  {shapes}")
