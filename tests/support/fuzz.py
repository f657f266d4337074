"""Tries readers with mutated files, guided by the coverage of this package.

  pip install ".[fuzz]"
  python tests/support/fuzz.py card --runs 10000
  python tests/support/fuzz.py all --runs 10000 --blind

An input that breaks the rules (see support/trials.py) is written to --found and ends the run of
its reader. --blind needs no Atheris: mutations of files that are right, nothing guided.
"""

import argparse
import multiprocessing
import pathlib
import random
import resource
import sys
import tempfile
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent.parent))


def blind(name: str, runs: int, seed: int, found: pathlib.Path, seconds: float) -> int:
    """Tries mutations; prints and writes the first input of each kind of fault."""
    from readers import READERS
    from trials import Trial, inputs

    faults: dict[str, int] = {}
    tried = accepted = 0
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(READERS[name], pathlib.Path(folder))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        for data in inputs(trial, seed, runs):
            tried += 1
            try:
                accepted += trial(data)
            except Exception as e:  # noqa: BLE001 - that is what is looked for
                frames = traceback.extract_tb(e.__traceback__)
                ours = [f for f in frames if "/wsvad_jax/" in f.filename]
                at = (ours or frames)[-1]
                kind = f"{type(e).__name__} at {at.name}:{at.lineno}: {e}"[:160]
                if not faults.setdefault(f"{type(e).__name__} {at.name}", 0):
                    found.mkdir(parents=True, exist_ok=True)
                    (found / f"{name}-{len(faults)}").write_bytes(data)
                    print(f"  {name}: {kind}", flush=True)
                faults[f"{type(e).__name__} {at.name}"] += 1
            if time.perf_counter() - start > seconds:
                break
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(
            f"{name}: {tried} inputs, {accepted} accepted, {len(faults)} faults, "
            f"{time.perf_counter() - start:.0f} s, slowest {trial.slowest:.2f} s, "
            f"{more / 1024:.0f} MiB more memory",
            flush=True,
        )
    return len(faults)


def guided(name: str, runs: int, found: pathlib.Path) -> None:
    """Hands the reader to Atheris, which ends the process."""
    import atheris

    with atheris.instrument_imports(include=["wsvad_jax"]):
        from readers import READERS
        from trials import Trial, mutated

        folder = tempfile.TemporaryDirectory()
        trial = Trial(READERS[name], pathlib.Path(folder.name))
        trial(trial.samples[0])  # what is imported on first use

    corpus = found / f"corpus-{name}"
    corpus.mkdir(parents=True, exist_ok=True)
    for i, sample in enumerate(trial.samples):
        (corpus / f"sample{i}").write_bytes(sample)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        if seed % 2:
            return mutated(data, random.Random(seed))[:most]
        return atheris.Mutate(data, most)

    size = 4 * max(map(len, trial.samples))
    flags = [f"-runs={runs}", f"-max_len={max(size, 8192)}", "-rss_limit_mb=8192"]
    flags += [f"-artifact_prefix={found}/{name}-", "-timeout=60"]
    atheris.Setup(
        [sys.argv[0], *flags, str(corpus)],
        lambda data: trial(bytes(data)),
        custom_mutator=mutate,
    )
    atheris.Fuzz()


def main() -> int:
    from readers import READERS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reader", choices=[*READERS, "all"])
    parser.add_argument("--runs", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blind", action="store_true")
    parser.add_argument("--seconds", type=float, default=1e9, help="at most, blind")
    parser.add_argument("--found", type=pathlib.Path, default=pathlib.Path("found"))
    known = parser.parse_args()
    names = list(READERS) if known.reader == "all" else [known.reader]
    codes = []
    # A process each: a crash is a fault of one reader, and Atheris ends its process.
    context = multiprocessing.get_context("spawn")
    for name in names:
        work = (blind, (name, known.runs, known.seed, known.found, known.seconds))
        if not known.blind:
            work = (guided, (name, known.runs, known.found))
        process = context.Process(target=_exit_with, args=work)
        process.start()
        process.join()
        codes.append(process.exitcode)
        if process.exitcode:
            print(f"{name}: exit code {process.exitcode}", flush=True)
    return int(any(codes))


def _exit_with(function, arguments) -> None:
    sys.exit(min(function(*arguments) or 0, 1))


if __name__ == "__main__":
    sys.exit(main())
