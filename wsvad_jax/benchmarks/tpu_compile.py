"""Compiles training and scoring ahead of time for TPU topologies you don't have.

The TPU compiler (package libtpu) knows topologies by name, as v5e:2x4. It compiles the
programs of `train` and `evaluate` at the published batch size, with a text tower of
CLIP ViT-B/16's size. Inputs are shapes alone: nothing is computed, and there are no
weights.

Reported per chip: memory as planned by the compiler, FLOP as counted by XLA, and
collectives.
"""

import dataclasses
import functools
import importlib.metadata
import itertools
import math
import os
import pathlib
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from wsvad_jax.benchmarks import step_time
from wsvad_jax.clip.prompts import TextInputs
from wsvad_jax.clip.towers import CLIPText, TextConfig
from wsvad_jax.data import cards
from wsvad_jax.data.records import Batch
from wsvad_jax.evaluation.scorer import Scorer
from wsvad_jax.experiment import build
from wsvad_jax.parallel import mesh as parallel_mesh
from wsvad_jax.training import optim, state, train_step
from wsvad_jax.training.microbatches import num_microbatches
from wsvad_jax.utils import flags
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import write_json
from wsvad_jax.utils.processes import run_in_subprocess
from wsvad_jax.utils.text import aligned

if TYPE_CHECKING:
    from ml_collections import ConfigDict

GIB = 2**30
# Memory of a device in GiB, by kind; the 16 GB of the vendors are 16 GiB.
MEMORY = {"TPU v4": 32, "TPU v5 lite": 16, "TPU v5": 95, "TPU v6 lite": 32}
CROPS = {"ucf": 10, "xd": 5}  # crops of the released features
WHOLE = 1024  # length of whole videos in snippets: 9 minutes
WIDTH = 512
TEXT = TextConfig(49408, WIDTH, 2048, 12, 8, 77, WIDTH)  # text tower of ViT-B/16
# Without these variables, the library asks the machine for its TPUs.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "none",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
}
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
BYTES_PER_ELEMENT = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s32": 4,
    "u32": 4,
    "f32": 4,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A program to compile."""

    model: str
    dataset: str
    work: str  # training or scoring


def compile_for_topologies(
    topologies: Sequence[str],
    models: Sequence[str],
    datasets: Sequence[str],
    output: pathlib.Path | None = None,
) -> tuple[list[dict[str, Any]], bool]:
    """Compiles training and scoring for each topology, and prints tables.

    Args:
      topologies: names, as v5e:2x4.
      models: recipes, by name.
      datasets: `ucf` and `xd`, whose shapes are compiled.
      output: JSON file to write.

    Returns:
      One report per topology, see `compile_all`, and whether every program fits.
    """
    grid = itertools.product(models, datasets, ("training", "scoring"))
    cases = [Case(*names) for names in grid]

    # The compiler stays loaded in a process, so each topology gets a fresh one.
    os.environ.update(ENVIRONMENT)
    reports = []
    for topology in topologies:
        reports.append(run_in_subprocess(compile_all, topology, cases))
        print("\n".join(table(reports[-1])), flush=True)
    if output:
        write_json(output, reports)

    fit = all(map(fits_in_memory, reports))
    print("every program fits a chip" if fit else "not every program fits a chip")
    return reports, fit


def compile_all(topology: str, cases: list[Case]) -> dict[str, Any]:
    """Compiles programs for a topology and returns one row of numbers for each.

    Call it in a separate process, with `ENVIRONMENT` in its environment.

    Raises:
      InputError: the TPU compiler is missing, or doesn't know the topology.
    """
    from wsvad_jax.experiment.config import load_config

    devices = _devices(topology)
    kind = devices[0].device_kind
    rows = []
    # One line per program, since each takes minutes.
    for case in cases:
        print(f"{topology}: {case.model}, {case.dataset}, {case.work}", file=sys.stderr)
        config = load_config([f"--config={case.model}:{case.dataset}"])
        rows.append(dataclasses.asdict(case) | _compile(config, case, devices))

    versions = {k: importlib.metadata.version(k) for k in ("jax", "jaxlib", "libtpu")}
    return {
        "topology": topology,
        "device": kind,
        "chips": len(devices),
        "gib": MEMORY.get(kind),
        "versions": versions,
        "programs": rows,
    }


def _devices(topology: str) -> list[Any]:
    from jax.experimental import topologies

    # The two cores of a v4 chip form one device, as JAX presents them on the chip.
    options = {"chip_config_name": "megacore"} if topology.startswith("v4") else {}

    try:
        topology_desc = topologies.get_topology_desc(
            platform="tpu", topology_name=topology, **options
        )
    except (RuntimeError, ValueError, ImportError) as e:
        raise InputError(
            f"--topology {topology}: {' '.join(str(e).split())[:300]}; expected a "
            f"name like v5e:2x4, and the compiler: {flags.install('aot')}"
        ) from None
    return list(topology_desc.devices)


def _compile(config: "ConfigDict", case: Case, devices: list[Any]) -> dict[str, Any]:
    training = case.work == "training"
    batch = config.paper.batch_size if training else config.eval.batch_size

    # The batch size is the published one. As many chips take part as divide it.
    chips = devices[: math.gcd(batch, len(devices))]
    mesh = Mesh(np.array(chips).reshape(-1, 1), parallel_mesh.AXES)

    whole = config.data.samples == "videos"
    card = {"ucf": cards.UCF, "xd": cards.XD}[case.dataset]
    spec = build.get_model_spec(config)
    network = build.scoring_model(
        config,
        text=text_shapes(card) if spec.reads_text else None,
        T=config.data.length,
        width=WIDTH,
        mesh=mesh,
    )

    shapes = step_time.BenchmarkShapes(
        batch, network.T, WIDTH, len(card.classes), CROPS[case.dataset] if whole else 1
    )
    lower = _lower_training if training else _lower_scoring
    lowered, shapes = lower(network, shapes)

    shape = [shapes.batch_size, shapes.crops, shapes.length, shapes.width]
    return {"shape": shape, "chips": mesh.size, **_measured(lowered)}


def _lower_training(
    network: build.ScoringModel, shapes: step_time.BenchmarkShapes
) -> tuple[Any, step_time.BenchmarkShapes]:
    config = network.config
    optimiser = optim.build_optimiser(
        config.paper.to_dict(),
        epochs=10,
        steps_per_epoch=100,
        loader_batches_per_epoch=100,
    )
    batch = batch_shapes(shapes)
    # The same calls as in training, traced for shapes.
    example = (jnp.zeros((2, *batch.features.shape[1:])), jnp.ones(2, int))
    init = state.make_init(
        network.model, optimiser, (*example, network.text), network.mesh
    )

    key = jax.eval_shape(lambda: jax.random.key(0))
    spec = network.spec
    microbatches = num_microbatches(
        config, spec, shapes.batch_size, network.mesh, (shapes.length, shapes.width)
    )
    step = train_step.make_train_step(
        network.model, spec, optimiser, dict(config.loss), microbatches
    )
    program: Any = train_step.compile_host_step(step, network.mesh)

    # The step takes the state with the shardings that training gives it.
    current = jax.eval_shape(init.func, *init.args, key)
    where = parallel_mesh.fsdp_shardings(current, network.mesh)
    return program.lower(
        with_shardings(current, where), batch, network.text, key
    ), shapes


def _lower_scoring(
    network: build.ScoringModel, shapes: step_time.BenchmarkShapes
) -> tuple[Any, step_time.BenchmarkShapes]:
    scorer = Scorer(network)

    # Whole videos are batched by length; this one stands for a long video.
    if network.config.eval.mode == "whole":
        shapes = dataclasses.replace(
            shapes, batch_size=scorer.max_windows_per_batch(WHOLE), length=WHOLE
        )

    batch = batch_shapes(shapes)

    x = jax.ShapeDtypeStruct((2, shapes.crops, network.T, WIDTH), jnp.float32)
    length = jax.ShapeDtypeStruct((2,), jnp.int32)
    variables: Any = jax.eval_shape(
        functools.partial(build.init_variables, network.model), x, length, network.text
    )
    variables = {k: variables.get(k, {}) for k in ("params", "batch_stats")}
    # Class texts are encoded by another program, which is compiled once per scoring.
    text = None
    if network.text is not None:
        text = jax.eval_shape(
            network.model.encode_text, variables["params"], network.text
        )

    whole = parallel_mesh.replicated_sharding(network.mesh)
    variables, text = (
        with_shardings(tree, jax.tree.map(lambda _: whole, tree))
        for tree in (variables, text)
    )

    program = scorer.program
    return program.lower(variables, batch.features, batch.length, text), shapes


def with_shardings(tree: Any, where: Any) -> Any:
    """Returns the shapes of a tree with the shardings of `where`."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, where
    )


def text_shapes(card: cards.Card) -> TextInputs:
    """Returns the shapes of a card's prompts and of ViT-B/16's text tower."""
    # A class may have several prompts.
    K = sum(len(prompts) for prompts in card.prompts)
    tokens = jax.ShapeDtypeStruct((K, step_time.PROMPT_LENGTH), jnp.int32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    tower: Any = jax.eval_shape(CLIPText(TEXT).init, key, tokens)
    kernel = jax.ShapeDtypeStruct((TEXT.hidden_size, WIDTH), jnp.float32)

    return TextInputs(
        tokens=tokens,
        eos=jax.ShapeDtypeStruct((K,), jnp.int32),
        class_from_prompt=jax.ShapeDtypeStruct((len(card.classes), K), jnp.float32),
        params={
            "text_model": tower["params"],
            "text_projection": {"kernel": kernel},
        },
        config=TEXT,
    )


def batch_shapes(shapes: step_time.BenchmarkShapes) -> Batch:
    """Returns the shapes of a batch from the host."""
    B, N, T, D = shapes.batch_size, shapes.crops, shapes.length, shapes.width
    return Batch(
        features=jax.ShapeDtypeStruct((B, N, T, D), jnp.float16),
        length=jax.ShapeDtypeStruct((B,), jnp.int32),
        label=jax.ShapeDtypeStruct((B, shapes.classes), jnp.float32),
        mask=jax.ShapeDtypeStruct((B,), jnp.bool_),
    )


def _measured(lowered: Any) -> dict[str, Any]:
    # A program that doesn't fit is a result, not a failure of the benchmark.
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as e:
        if "memory" not in str(e):
            raise
        return {"error": " ".join(str(e).split())[:300]}

    memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
    # Donated arguments are reused for outputs and would count twice.
    planned = {
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "program": memory.generated_code_size_in_bytes,
    }

    return {
        "bytes": planned | {"all": sum(planned.values())},
        "flop": float(cost.get("flops", math.nan)),
        "collectives": collectives(compiled.as_text()),
    }


def collectives(program: str) -> dict[str, dict[str, int]]:
    """Counts the collectives of a compiled program, and the bytes of their results.

    Args:
      program: text of the program in XLA's notation; a loop's body counts once.
    """
    count, size = Counter(), Counter()
    for name, shapes in _collectives(program):
        count[name] += 1
        size[name] += sum(
            BYTES_PER_ELEMENT.get(kind, 4)
            * math.prod(map(int, filter(None, dims.split(","))))
            for kind, dims in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shapes)
        )
    return {name: {"count": count[name], "bytes": size[name]} for name in count}


def _collectives(program: str) -> Iterator[tuple[str, str]]:
    names = "|".join(COLLECTIVES)
    # A line has the form `%name = shapes operation(operands), attributes`.
    pattern = re.compile(rf" = (.*?) ({names})(?:-start)?\(")
    for line in program.splitlines():
        if match := pattern.search(line):
            yield match[2], match[1]


def fits_in_memory(report: dict[str, Any]) -> bool:
    """Whether every program fits into the memory of a chip."""
    limit = (report["gib"] or math.inf) * GIB
    return all("bytes" in p and p["bytes"]["all"] <= limit for p in report["programs"])


def table(report: dict[str, Any]) -> list[str]:
    """Formats the numbers as lines of a plain text table."""
    heads = ["model", "dataset", "work", "batch", "chips", "MiB per chip"]
    rows = [[*heads, "GFLOP per chip", "all-reduces", "MB", "others"]]
    for p in report["programs"]:
        row = [p["model"], p["dataset"], p["work"]]
        row += ["x".join(map(str, p["shape"])), str(p["chips"])]
        if "error" in p:
            rows.append([*row, "does not fit", *[""] * 4])
            continue

        # Without fsdp, gradients are all-reduced; other collectives are only counted.
        reduced = p["collectives"].get("all-reduce", {"count": 0, "bytes": 0})
        others = sum(
            v["count"] for k, v in p["collectives"].items() if k != "all-reduce"
        )
        rows.append(
            [
                *row,
                f"{p['bytes']['all'] / 2**20:.0f}",
                f"{p['flop'] / 1e9:.1f}",
                str(reduced["count"]),
                f"{reduced['bytes'] / 1e6:.2f}",
                str(others),
            ]
        )

    memory = f"{report['gib']} GiB each" if report["gib"] else "memory unknown"
    title = f"{report['topology']}: {report['chips']} x {report['device']}, {memory}"
    return [title, *aligned(rows)]
