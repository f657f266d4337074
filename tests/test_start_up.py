"""What a program loads and compiles before it works."""

import json
import subprocess
import sys

import pytest
from sample_videos import write_video
from untrained import write_model

from wsvad_jax.clip.snapshot import load_snapshot

# What `detect` needs neither for a video nor for its pages.
UNUSED = ["sklearn", "tensorboardX", "tensorflow_datasets", "torch", "transformers"]
COUNTED = """
import json, sys
from wsvad_jax import detect
from wsvad_jax.utils import program
def main():
    import jax
    said = []
    jax.monitoring.register_event_listener(lambda name, **_: said.append(name))
    code = detect.main(sys.argv[2:])
    loaded = [name for name in json.loads(sys.argv[1]) if name in sys.modules]
    events = ("compile_requests_use_cache", "cache_hits")
    counts = [said.count(f"/jax/compilation_cache/{event}") for event in events]
    print(json.dumps([*counts, loaded]))
    return code
program.run(main)
"""


@pytest.fixture
def command(tiny, tmp_path, monkeypatch) -> list[str]:
    """Detects events in a video, and prints what was compiled and loaded."""
    # The program's own cache and switches, not those of the tests.
    for name in ("COMPILATION_CACHE_DIR", "PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.delenv(f"JAX_{name}", raising=False)
    monkeypatch.setenv("WSVAD_JAX_CACHE", str(tmp_path / "cache"))

    clip = load_snapshot(tiny.clip)
    encoder = f"{clip.name}@{clip.weights_hash[:12]}"
    model = write_model(tiny, "mil_ranking", tmp_path / "model", encoder=encoder)
    video = write_video(tmp_path / "v.mp4", 40)
    words = [video, "--checkpoint", model, "--clip", tiny.clip, "--output"]
    words.append(tmp_path / "found")
    return [sys.executable, "-c", COUNTED, json.dumps(UNUSED), *map(str, words)]


@pytest.mark.slow
def test_a_second_detect_compiles_nothing_and_none_loads_what_it_does_not_use(command):
    def counts():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    asked, found, loaded = counts()
    assert found < asked and not loaded
    asked, found, loaded = counts()
    assert found == asked > 0 and not loaded
