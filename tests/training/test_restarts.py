"""What launch/ scripts do when a machine is taken away, and where hosts begin."""

import os
import signal
import subprocess
import sys
import time

import pytest
from fake_gcloud import LAUNCH, LOCAL, REPOSITORY, SETTINGS, calls, count, launch


def test_spot_begins_again_until_the_run_is_done(cloud):
    # First try: taken away while it runs; second: SIGTERM's code; third: done.
    (cloud / "states").write_text("ACTIVE\nSUSPENDING\n")
    (cloud / "exit").write_text("\n143\n0\n")
    done = launch("spot.sh", **SETTINGS)
    assert done.returncode == 0, done.stderr
    assert count(cloud, "create") == count(cloud, "delete") == 3
    assert calls(cloud)[-1].startswith("compute tpus queued-resources delete")
    assert "try 1 of 20 ended: the hosts are gone" in done.stderr
    assert "try 2 of 20 ended: 143" in done.stderr


@pytest.mark.parametrize(
    ("exits", "code", "tries"), [("2\n", 2, 1), ("143\n143\n", 1, 2)]
)
def test_spot_ends_at_an_error_or_after_its_tries(exits, code, tries, cloud):
    (cloud / "states").write_text("ACTIVE\n")
    (cloud / "exit").write_text(exits)
    assert launch("spot.sh", **SETTINGS, TRIES="2").returncode == code
    assert count(cloud, "create") == count(cloud, "delete") == tries


def test_spot_deletes_when_the_hosts_cannot_be_set_up(cloud):
    (cloud / "states").write_text("ACTIVE\n")
    (cloud / "fail.ssh").touch()
    assert launch("spot.sh", **SETTINGS).returncode == 1
    assert count(cloud, "create") == count(cloud, "delete") == 1


def test_spot_with_a_group_of_instances(cloud):
    (cloud / "states").write_text("True\n")
    (cloud / "exit").write_text("0\n")
    assert launch("spot.sh", **SETTINGS, HOW="mig").returncode == 0
    assert count(cloud, "delete") == 2 and "templates delete" in calls(cloud)[-1]


def test_slurm_puts_an_interrupted_job_back(cloud):
    job = {**LOCAL, "SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(REPOSITORY)}
    srun = cloud / "srun"
    srun.write_text("#!/bin/bash\nexit 143\n")
    assert launch("slurm.sh", **job).returncode == 143
    assert calls(cloud) == ["requeue 7"]
    assert launch("slurm.sh", **job, SLURM_RESTART_COUNT="20").returncode == 143
    srun.write_text("#!/bin/bash\nexit 2\n")
    assert launch("slurm.sh", **job).returncode == 2
    assert calls(cloud) == ["requeue 7"]


def test_gpus_goes_on_after_a_crash_and_not_after_an_error(cloud):
    python = cloud / "train"
    text = '#!/bin/bash\necho "$*" >>"$FAKE/calls"\nexit "$(sed -n 1p "$FAKE/code")"\n'
    python.write_text(text)
    python.chmod(0o755)
    for code, tries in (("139", 3), ("2", 1), ("0", 1)):
        (cloud / "calls").unlink(missing_ok=True)
        (cloud / "code").write_text(code)
        done = launch("gpus.sh", **LOCAL, PYTHON=str(python))
        assert done.returncode == int(code) and len(calls(cloud)) == tries
    command = (
        "-m wsvad_jax.train --config=dsanet:ucf --workdir=/shared/it's here "
        "--data_dir=/shared/data"
    )
    assert calls(cloud) == [command]


def test_a_restart_is_not_repeated(cloud):
    """It would move the run aside at each new try."""
    for script, variables in (("gpus.sh", LOCAL), ("spot.sh", SETTINGS)):
        done = launch(script, **{**variables, "ARGS": "--seeds 0,1 --restart"})
        assert done.returncode == 2 and "--restart in ARGS" in done.stderr
    assert not (cloud / "calls").exists() or not calls(cloud)


# What gcloud storage does, with a folder in the place of gs://bucket.
STORAGE = """#!/bin/bash
args=()
for a; do case $a in --*) ;; *) args+=("${a/gs:\\/\\/bucket/$FAKE/bucket}");; esac; done
case ${args[1]} in
  ls) ls "${args[2]}" ;;
  rsync) [ -d "${args[2]}" ] && mkdir -p "${args[3]}" && cp -R "${args[2]}/." "${args[3]}" ;;
  cp) mkdir -p "$(dirname "${args[3]}")"
      if [ "${args[2]}" = - ]; then cat >"${args[3]}"; else cp "${args[2]}" "${args[3]}"; fi ;;
esac
"""
# A training that counts its starts and waits to be ended the first time.
TRAIN = """#!/bin/bash
echo "$*" >>state/workdir/starts
echo "training $WSVAD_JAX_MULTIHOST"
if [ "$(wc -l <state/workdir/starts)" = 1 ]; then
  trap 'echo saved >state/workdir/saved; exit 143' TERM
  touch "$FAKE/running"
  while :; do sleep 0.1; done
fi
"""


def test_a_host_saves_at_sigterm_and_another_goes_on(cloud):
    (cloud / "gcloud").write_text(STORAGE)
    (cloud / "curl").write_text("#!/bin/bash\nexit 22\n")  # no metadata: host 0
    (cloud / "curl").chmod(0o755)
    (cloud / "bucket/data").mkdir(parents=True)
    (cloud / "bucket/data/a").write_text("data")
    variables = {**SETTINGS, "RUN": "gs://bucket/run", "WSVAD_JAX_MULTIHOST": "1"}

    def start(home: str):
        python = cloud / home / "wsvad_jax/state/venv/bin/python"
        python.parent.mkdir(parents=True)
        python.write_text(TRAIN)
        python.chmod(0o755)
        return subprocess.Popen(
            ["bash", str(LAUNCH / "worker.sh"), "train"],
            env={**os.environ, **variables, "HOME": str(cloud / home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    first = start("first")
    until = time.monotonic() + 30
    while not (cloud / "running").exists() and time.monotonic() < until:
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=30) == 143
    run = cloud / "bucket/run"
    assert (run / "exit").read_text() == "143\n"
    assert (run / "workdir/saved").read_text() == "saved\n"
    assert "training 1" in (run / "log").read_text()
    assert (cloud / "first/wsvad_jax/state/data/a").read_text() == "data"

    assert start("second").wait(timeout=30) == 0
    assert (run / "exit").read_text() == "0\n"
    command = (
        "-m wsvad_jax.train --config=dsanet:ucf --workdir state/workdir "
        "--config.seed=1 --data_dir state/data\n"
    )
    assert (run / "workdir/starts").read_text() == 2 * command


def test_multihost_is_asked_for_by_flag_or_variable(monkeypatch, tmp_path):
    import jax

    from wsvad_jax import evaluate, train
    from wsvad_jax.utils import program
    from wsvad_jax.utils.errors import InputError

    started = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: started.append(1))
    monkeypatch.delenv("WSVAD_JAX_MULTIHOST", raising=False)
    # Both programs stop at a bad path, after the hosts have met.
    programs = {
        train.main: ["--config=none.py"],
        evaluate.main: [f"--workdir={tmp_path}"],
    }
    for main, arguments in programs.items():
        for flag, variable, wanted in (
            ([], "", 0),
            ([], "0", 0),
            (["--multihost"], "", 1),
            ([], "1", 1),
        ):
            monkeypatch.setenv("WSVAD_JAX_MULTIHOST", variable)
            started.clear()
            with pytest.raises(InputError):
                main([*arguments, *flag])
            assert len(started) == wanted
    monkeypatch.setenv("WSVAD_JAX_MULTIHOST", "yes")
    with pytest.raises(InputError, match="WSVAD_JAX_MULTIHOST=yes: expected 1 or 0"):
        program.start_hosts(False)


def test_multihost_alone_and_under_slurm():
    code = (
        "import jax; from wsvad_jax.utils import program; program.start_hosts(True);"
        "print(jax.process_count(), jax.distributed.is_initialized())"
    )
    task = {"JOB_ID": "7", "STEP_NODELIST": "localhost", "NTASKS": "1"}
    task |= {"PROCID": "0", "LOCALID": "0"}
    clean = {
        k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "OMPI"))
    }
    environment = {**clean, "JAX_PLATFORMS": "cpu"}

    def python(**more: str):
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=REPOSITORY,
            env=environment | more,
            capture_output=True,
            check=False,
            text=True,
        )

    done = python(**{f"SLURM_{k}": v for k, v in task.items()})
    assert done.stdout == "1 True\n", done.stderr
    alone = python()
    assert "InputError: --multihost: no other hosts are known" in alone.stderr
