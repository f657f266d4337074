"""Benchmarks training and scoring steps on synthetic features.

Times are medians over steps, each waited for, after a step that compiles. They are
compared with the rate of a square matrix product. It is measured in the same process,
in the same precision and between the steps, so a busy machine slows both.

Floating-point operations are counted twice. `flop_xla` is XLA's count for the compiled
program, which counts the body of a loop once. `flop_products` counts the matrix products
and convolutions of the traced program, at 2·M·N·K each and in each iteration of a loop,
as in a count by hand.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from wsvad_jax.clip.half_products import product
from wsvad_jax.data.records import Batch
from wsvad_jax.evaluation.scorer import Scorer
from wsvad_jax.experiment import build
from wsvad_jax.parallel import mesh
from wsvad_jax.training import optim, state, train_step
from wsvad_jax.training.microbatches import num_microbatches
from wsvad_jax.utils.processes import peak_memory_bytes

if TYPE_CHECKING:
    from ml_collections import ConfigDict

PROMPT_LENGTH = 16  # tokens per class prompt
MATRIX_ROWS = {"cpu": 2048, "gpu": 8192, "tpu": 8192}  # rows of the reference product


@dataclasses.dataclass(frozen=True)
class BenchmarkShapes:
    """Shapes of a benchmark: B videos of T snippets with D features, C classes."""

    batch_size: int
    length: int
    width: int
    classes: int
    crops: int = 1


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of each repetition of a workload."""

    seconds: tuple[float, ...]

    def summary(self) -> dict[str, float]:
        """Returns median and quartiles."""
        low, middle, high = np.percentile(self.seconds, [25, 50, 75]).tolist()
        return {"median_s": middle, "low_s": low, "high_s": high}


def measure_training(
    config: "ConfigDict", shapes: BenchmarkShapes, *, steps: int = 10, profile: str = ""
) -> dict[str, Any]:
    """Times the recipe's training step on normal features.

    Args:
      config: recipe; its published optimisers are used.
      shapes: shapes of the batch.
      steps: number of timed steps.
      profile: folder for a trace that TensorBoard and Perfetto open, '' for none.
    """
    batch, key = synthetic_batch(shapes), jax.random.key(0)
    network, current, step = build_training(config, shapes)

    count = train_step.count_entries(current.params)
    # Traced before compilation, since XLA rewrites products.
    products = product_flops(jax.make_jaxpr(step)(current, batch, network.text, key))

    on_device = jax.device_put(batch, mesh.batch_sharding(network.mesh))
    # Compiled explicitly, for its time and its memory analysis.
    start = time.perf_counter()
    program: Any = train_step.compile_host_step(step, network.mesh)
    compiled = program.lower(current, on_device, network.text, key).compile()
    compile_s = time.perf_counter() - start

    rate = MatrixRate(network.model.dtype)

    def run() -> Any:
        # The step donates its state, so the new one replaces it.
        nonlocal current
        current, metrics = compiled(current, on_device, network.text, key)
        return metrics

    timing, product_rate = interleaved(run, rate, steps, profile)
    summary = throughput_summary(timing, product_rate, compiled, products)
    snippets = shapes.batch_size * shapes.crops * shapes.length

    return {
        **dataclasses.asdict(shapes),
        "dtype": network.model.dtype,
        "parameters": count,
        "compile_s": compile_s,
        **summary,
        "snippets_per_s": snippets / summary["median_s"],
        "peak_bytes": peak_bytes(compiled),
    }


def build_training(
    config: "ConfigDict", shapes: BenchmarkShapes
) -> tuple[build.ScoringModel, state.State, state.Step]:
    """Builds the recipe's model, initial state and training step."""
    network, plan = build_network(config, shapes), config.paper.to_dict()
    optimiser = optim.build_optimiser(
        plan, epochs=1, steps_per_epoch=100, loader_batches_per_epoch=100
    )

    # Parameters don't depend on the batch size, so two videos suffice.
    shape = (2, shapes.crops, shapes.length, shapes.width)
    example = jnp.zeros(shape), jnp.ones(2, jnp.int32), network.text
    init = state.make_init(network.model, optimiser, example, network.mesh)

    spec, weights = network.spec, dict(config.loss)
    microbatches = num_microbatches(
        config, spec, shapes.batch_size, network.mesh, (shapes.length, shapes.width)
    )
    step = train_step.make_train_step(
        network.model, spec, optimiser, weights, microbatches
    )
    return network, init(jax.random.key(0)), step


def measure_scoring(
    config: "ConfigDict", shapes: BenchmarkShapes, *, steps: int = 10
) -> dict[str, Any]:
    """Times the scoring of window batches, from host to host, with encoded text."""
    network = build_network(config, shapes)
    batch = synthetic_batch(shapes)
    params, batch_stats = random_variables(network)
    scorer = Scorer(network)
    weights = scorer.weights(params, batch_stats)

    features = np.asarray(batch.features, np.float16)
    length = np.asarray(batch.length)

    def run() -> Any:
        return scorer.score_batch(weights, features, length, shapes.batch_size)

    start = time.perf_counter()
    run()
    compile_s = time.perf_counter() - start

    rate = MatrixRate(network.model.dtype)
    timing, product_rate = interleaved(run, rate, steps)

    inputs = weights.variables, features, length, weights.text
    # For the counts alone; JAX doesn't expose the program that ran.
    compiled = scorer.program.lower(*inputs).compile()
    products = product_flops(jax.make_jaxpr(scorer.program)(*inputs))
    summary = throughput_summary(timing, product_rate, compiled, products)

    return {
        **dataclasses.asdict(shapes),
        "dtype": network.model.dtype,
        "compile_s": compile_s,
        **summary,
        "windows_per_s": shapes.batch_size / summary["median_s"],
        "peak_bytes": peak_bytes(compiled),
    }


def random_variables(network: build.ScoringModel) -> tuple[Any, Any]:
    """Returns the initial parameters and running statistics of a model."""
    example = jnp.zeros((2, 1, network.T, network.width)), jnp.ones(2, jnp.int32)

    def init(text):
        return build.init_variables(network.model, *example, text)

    variables = jax.jit(init)(network.text)
    return variables["params"], variables.get("batch_stats", {})


def throughput_summary(
    timing: Timing, product_rate: float, compiled: Any, products: float
) -> dict[str, Any]:
    summary = timing.summary()
    counted = compiled.cost_analysis() or {}
    counted = counted[0] if isinstance(counted, list) else counted  # by JAX version
    return {
        **summary,
        "flop_xla": float(counted.get("flops", math.nan)),
        "flop_products": products,
        "flop_per_s": products / summary["median_s"],
        "product_flop_per_s": product_rate,
        "share_of_product": products / summary["median_s"] / product_rate,
    }


def build_network(config: "ConfigDict", shapes: BenchmarkShapes) -> build.ScoringModel:
    """Builds the recipe's model, with class prompts if it uses any."""
    spec = build.get_model_spec(config)
    text = random_text_inputs(shapes) if spec.reads_text else None
    return build.scoring_model(config, text=text, T=shapes.length, width=shapes.width)


def random_text_inputs(shapes: BenchmarkShapes) -> Any:
    """Returns prompts of 16 tokens and a random text tower of CLIP ViT-B/16's size."""
    from wsvad_jax.clip.prompts import TextInputs
    from wsvad_jax.clip.random_snapshot import EOS_TOKEN_ID, VOCAB_SIZE, random_params
    from wsvad_jax.clip.towers import TextConfig, VisionConfig

    text = TextConfig(
        *(VOCAB_SIZE, 512, 2048, 12, 8, 77, shapes.width), eos_token_id=EOS_TOKEN_ID
    )
    params = random_params(text, VisionConfig(16, 8, 16, 32, 1, 2, shapes.width), 0)

    # Random words between start and end token; the values don't change the cost.
    tokens = np.random.RandomState(0).randint(0, 512, (shapes.classes, PROMPT_LENGTH))
    tokens[:, 0], tokens[:, -1] = EOS_TOKEN_ID - 1, EOS_TOKEN_ID

    return TextInputs(
        tokens=jnp.asarray(tokens, jnp.int32),
        eos=jnp.full(shapes.classes, PROMPT_LENGTH - 1, jnp.int32),
        class_from_prompt=jnp.eye(shapes.classes),
        params={k: params[k] for k in ("text_model", "text_projection")},
        config=text,
    )


def synthetic_batch(shapes: BenchmarkShapes, seed: int = 0) -> Batch:
    """Returns a batch of normal, then abnormal videos, of random lengths.

    The features have the deviation of CLIP's.
    """
    r = np.random.RandomState(seed)
    B, T = shapes.batch_size, shapes.length
    shape = (B, shapes.crops, T, shapes.width)

    # Pairing by halves needs the normal videos first.
    label = np.zeros((B, shapes.classes), np.float32)
    half = B // 2
    label[:half, 0] = 1
    label[np.arange(half, B), r.randint(1, shapes.classes, B - half)] = 1

    return Batch(
        features=(r.standard_normal(shape) * 0.4).astype(np.float16),
        length=r.randint(T // 2, T + 1, B).astype(np.int32),
        label=label,
        mask=np.ones(B, bool),
    )


class MatrixRate:
    """Rate of a square matrix product in a given precision, as a reference."""

    def __init__(self, dtype: str, rows: int = 0):
        rows = rows or MATRIX_ROWS.get(jax.default_backend(), 2048)
        self.flop = 2 * rows**3
        r = np.random.RandomState(0)
        self.x = jnp.asarray(r.standard_normal((rows, rows)), dtype)
        self.multiply = jax.jit(lambda x: product(x, x))
        jax.block_until_ready(self.multiply(self.x))

    def __call__(self) -> float:
        """Returns FLOP/s, averaged over as many products as take 50 ms."""
        # One small product is too short to time.
        start, n = time.perf_counter(), 0
        while True:
            jax.block_until_ready(self.multiply(self.x))
            n += 1
            elapsed = time.perf_counter() - start
            if elapsed > 0.05:
                return n * self.flop / elapsed


def interleaved(
    run: Callable[[], Any], rate: MatrixRate, steps: int, profile: str = ""
) -> tuple[Timing, float]:
    """Times `run` and the matrix product alternately.

    Returns the times of `run` and the median rate of the product in FLOP/s.
    """
    jax.block_until_ready(run())
    # The first run compiles and is not timed.
    seconds, rates = [], []

    # Compilation would fill most of a trace.
    if profile:
        jax.profiler.start_trace(profile)

    for _ in range(steps):
        rates.append(rate())
        start = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - start)

    if profile:
        jax.profiler.stop_trace()

    return Timing(tuple(seconds)), statistics.median(rates)


def product_flops(program: Any) -> float:
    """Counts the FLOP of a traced program's matrix products and convolutions."""
    return sum(times * flops(e) for e, times in equations(program.jaxpr))


def equations(jaxpr: Any, times: int = 1) -> Iterator[tuple[Any, int]]:
    """Yields the equations of a program, with the number of times that each runs."""
    for equation in jaxpr.eqns:
        yield equation, times
        # The body of a scan runs once per iteration; other sub-programs run once.
        inner = times
        if equation.primitive.name == "scan":
            inner = times * equation.params["length"]

        values = jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        )
        for value in values:
            body = getattr(value, "jaxpr", value)
            if hasattr(body, "eqns"):
                yield from equations(body, inner)


def flops(equation: Any) -> float:
    """Counts the FLOP of a matrix product or convolution; 0 for other equations."""
    name = equation.primitive.name
    if name not in ("dot_general", "conv_general_dilated"):
        return 0.0

    left, right = (v.aval.shape for v in equation.invars[:2])
    out = math.prod(equation.outvars[0].aval.shape)
    if name == "dot_general":
        contracted = equation.params["dimension_numbers"][0][0]
        return 2.0 * out * math.prod(left[i] for i in contracted)

    # Each output sums over the kernel's window and its input channels.
    kernel = equation.params["dimension_numbers"].rhs_spec
    return 2.0 * out * math.prod(right[i] for i in kernel[1:])


def peak_bytes(compiled: Any) -> dict[str, int]:
    """Returns memory of a compiled program and peak memory of the process, in bytes."""
    peak: dict[str, int] = {}
    if (memory := compiled.memory_analysis()) is not None:
        peak["temporary"] = memory.temp_size_in_bytes
        peak["arguments"] = memory.argument_size_in_bytes
    if used := jax.local_devices()[0].memory_stats():
        peak["device_peak"] = used.get("peak_bytes_in_use", 0)
    peak["process"] = peak_memory_bytes()
    return peak
