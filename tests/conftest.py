"""Switches and fixtures for every test."""

import gc
import os
import pathlib
from collections.abc import Callable, Iterator

import jax
import pytest

# XLA's older emitters compile these small programs in a third of the time. Processes
# that a test starts inherit this. JAX 0.12 has them no longer, and XLA aborts at a flag
# that it doesn't know.
FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
if jax.__version_info__ < (0, 11):
    os.environ["XLA_FLAGS"] = f"{FLAGS} {os.environ.get('XLA_FLAGS', '')}".strip()

# Little optimisation compiles in half the time. It is set here, since the fixtures of a
# session, such as a trained model, are set up before those of a module.
jax.config.update("jax_disable_most_optimizations", True)

# A broadcast between ranks is a bug more often than a wish.
jax.config.update("jax_numpy_rank_promotion", "raise")

REPOSITORY = pathlib.Path(__file__).parent.parent
pytest_plugins = ["clip_fixtures", "dataset_fixtures"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files with slow tests first, so that none is left for the end of a session."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Collects garbage less often: each time, Python looks through all of the imports."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20)


@pytest.fixture(scope="module", autouse=True)
def full_compilation(request) -> Iterator[None]:
    """Compiles the parity tests with all optimisation, where slow ones are among them.

    These are the programs that users run. Without the slow tests, the parity tests
    compile as the others do, which takes less time.
    """
    full = request.path.parent.name == "parity" and any(
        item.path == request.path and item.get_closest_marker("slow")
        for item in request.session.items
    )
    if full:
        jax.clear_caches()  # of programs with less optimisation
    jax.config.update("jax_disable_most_optimizations", not full)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory) -> Iterator[None]:
    """One cache for all workers and the processes that they start; not the user's."""
    # The folders of pytest-xdist's workers lie in one folder.
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    programs = cache / "programs"

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WSVAD_JAX_CACHE", str(cache))
        # Processes that a test starts compile as quickly as this one, and only once.
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(programs))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

        # Many tests compile the same small model.
        jax.config.update("jax_compilation_cache_dir", str(programs))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        yield


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, own_cache):
    """A prepared dataset of a dozen videos with two kinds of anomalies."""
    from tiny import Tiny

    return Tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """The folder of a tiny CLIP with random weights, which tests only read."""
    from sample_videos import write_clip

    return write_clip(tmp_path_factory.mktemp("clip") / "small")


@pytest.fixture(scope="session")
def openai_clip(tmp_path_factory):
    """A small CLIP with heads of OpenAI's width."""
    from released import write_clip

    return write_clip(tmp_path_factory.mktemp("clip") / "openai")


@pytest.fixture(scope="session")
def released(openai_clip):
    """State dicts as the released code would save them, by the model's name."""
    from released import states

    return states(openai_clip)


@pytest.fixture
def cloud(tmp_path, monkeypatch) -> pathlib.Path:
    """A folder whose gcloud, xpk, git … write down what launch/ scripts ask of them."""
    from fake_gcloud import pretend

    pretend(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium; a skip where there is none."""
    from chromium import start

    browser = start(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="session")
def finished(tiny, tmp_path_factory):
    """The workdir of a finished DSANet run, which tests only read."""
    from wsvad_jax.training.run import train_and_evaluate

    workdir = tmp_path_factory.mktemp("runs") / "dsanet"
    train_and_evaluate(tiny.config(), workdir)
    return workdir


@pytest.fixture(scope="session")
def finished_mil(tiny, tmp_path_factory):
    """The workdir of a finished run of MIL ranking, which tests only read."""
    from wsvad_jax.training.run import train_and_evaluate

    workdir = tmp_path_factory.mktemp("runs") / "mil_ranking"
    train_and_evaluate(tiny.config("mil_ranking"), workdir)
    return workdir


@pytest.fixture(scope="session")
def shared() -> Callable[[str], pathlib.Path]:
    """`shared(path)`: a file of the reference data, or a skip where there is none."""

    def find(path: str) -> pathlib.Path:
        found = REPOSITORY.parent / "shared" / path
        if not found.exists():
            pytest.skip(f"reference data ../shared/{path} is not here")
        return found

    return find


@pytest.fixture(scope="session")
def tiny_text():
    """Five class prompts, one class with two, with a small random text tower."""
    import jax.numpy as jnp
    import numpy as np

    from wsvad_jax.clip.prompts import TextInputs
    from wsvad_jax.clip.random_snapshot import random_params
    from wsvad_jax.clip.towers import TextConfig, VisionConfig

    text = TextConfig(64, 32, 64, 2, 2, 40, 32, eos_token_id=63)
    params = random_params(text, VisionConfig(16, 8, 16, 32, 1, 2, 32), seed=0)
    tokens = np.random.RandomState(1).randint(1, 60, (6, 5))
    tokens[:, 0] = 62
    eos = np.array([2, 3, 4, 3, 2, 4])
    tokens[np.arange(6), eos] = 63
    owner = np.eye(5, dtype=np.float32)[[0, 1, 2, 3, 4, 4]].T.copy()
    owner[4] /= 2
    names = ("text_model", "text_projection", "logit_scale")
    frozen = {k: params[k] for k in names}
    return TextInputs(
        tokens=jnp.asarray(tokens, jnp.int32),
        eos=jnp.asarray(eos, jnp.int32),
        class_from_prompt=jnp.asarray(owner),
        params=jax.tree.map(jnp.asarray, frozen),
        config=text,
    )
