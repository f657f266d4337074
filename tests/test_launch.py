"""The launch scripts: what they would run, what they delete, and what a host does."""

import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

REPOSITORY = pathlib.Path(__file__).parent.parent
LAUNCH = REPOSITORY / "launch"
GOLDEN = pathlib.Path(__file__).parent / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
SETTINGS = {
    "NAME": "wsvad",
    "PROJECT": "my-project",
    "ZONE": "us-east5-b",
    "RUN": "gs://bucket/runs/dsanet ucf",  # a space, to see it quoted
    "CONFIG": "dsanet:ucf",
    "DATA": "gs://bucket/data",
    "ARGS": "--config.seed=1",
    "TYPE": "v6e-8",
    "POLL": "0",
}
LOCAL = {"CONFIG": "dsanet:ucf", "WORKDIR": "/shared/it's here", "DATA": "/shared/data"}
# name of the golden file: (script, variables, commands)
CASES = {
    "tpu_vm": ("tpu_vm.sh", SETTINGS, "create setup run watch delete"),
    "queued": ("queued.sh", SETTINGS, "create start state delete"),
    "spot": ("spot.sh", SETTINGS, ""),
    "mig": ("mig.sh", SETTINGS, "create state watch delete"),
    "mig_slice": (
        "mig.sh",
        {**SETTINGS, "TOPOLOGY": "4x4", "HOSTS": "4", "SPOT": "1"},
        "create delete",
    ),
    "spot_mig": ("spot.sh", {**SETTINGS, "HOW": "mig"}, ""),
    "xpk": ("xpk.sh", {**SETTINGS, "SPOT": "1"}, "create run watch delete"),
    "slurm": ("slurm.sh", LOCAL, ""),
    "gpus": ("gpus.sh", {**LOCAL, "GPUS": "0,1"}, ""),
}
# Answers as told by files in $FAKE: fail.WORD (commands with that word fail), state
# (of what was created: lines that are used up but for the last), exit (of the run).
FAKE_GCLOUD = """#!/bin/bash
printf '%s\\n' "$*" >>"$FAKE/calls"
for rule in "$FAKE"/fail.*; do
  word=${rule##*/fail.}
  case " $* " in *" $word "*) echo "no $word" >&2; exit 1;; esac
done
case " $* " in
  *" describe "*)
    [ -s "$FAKE/state" ] || exit 1
    head -n 1 "$FAKE/state"
    [ "$(wc -l <"$FAKE/state")" = 1 ] || sed -i 1d "$FAKE/state" ;;
  *" create "*) [ ! -f "$FAKE/states" ] || cp "$FAKE/states" "$FAKE/state" ;;
  *" delete "*) rm -f "$FAKE/state" ;;
  *" storage cat "*/exit*)
    [ -s "$FAKE/exit" ] || exit 1
    head -n 1 "$FAKE/exit"; sed -i 1d "$FAKE/exit" ;;
esac
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A folder whose gcloud (and xpk, git, srun …) writes down what it is asked."""
    for name in ("gcloud", "xpk", "git", "srun", "scontrol"):
        path = tmp_path / name
        path.write_text(FAKE_GCLOUD)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(tmp_path))
    return tmp_path


def launch(script: str, *command: str, **variables: str):
    """Runs a script with nothing in its environment but these variables."""
    keep = {k: os.environ[k] for k in ("PATH", "FAKE", "HOME") if k in os.environ}
    return subprocess.run(
        ["bash", str(LAUNCH / script), *command],
        cwd=REPOSITORY,
        env=keep | variables,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


def calls(fake: pathlib.Path) -> list[str]:
    path = fake / "calls"
    return path.read_text().splitlines() if path.exists() else []


def count(fake: pathlib.Path, word: str) -> int:
    return sum(f" {word} " in f" {line} " for line in calls(fake))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_scripts_are_short_and_strict(script):
    text = script.read_text()
    assert text.count("\n") <= 40
    if text.startswith("#!"):
        assert os.access(script, os.X_OK) and "\nset -euo pipefail\n" in text
    else:  # sourced
        assert text.startswith("# shellcheck shell=bash\n")


def test_shellcheck():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (Debian's package of that name)")
    command = ["shellcheck", "-x", *(f"launch/{p.name}" for p in SCRIPTS)]
    found = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, check=False, text=True
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("name", CASES)
def test_dry_run_prints_what_would_run(name, fake):
    script, variables, commands = CASES[name]
    printed = ""
    for command in commands.split() or [""]:
        done = launch(script, *filter(None, [command]), DRY_RUN="1", **variables)
        assert done.returncode == 0, done.stderr
        printed += f"# {script} {command}".rstrip() + f"\n{done.stdout}"
    printed = printed.replace(str(REPOSITORY), "REPOSITORY")
    assert not calls(fake)
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(printed)
    assert printed == golden.read_text()


@pytest.mark.parametrize("name", ["tpu_vm", "queued", "mig_slice", "xpk"])
def test_what_dry_run_prints_is_what_runs(name, fake):
    script, variables, _ = CASES[name]
    (fake / "states").write_text("ACTIVE\n")
    assert launch(script, "create", **variables).returncode == 0
    dry = launch(script, "create", DRY_RUN="1", **variables).stdout
    # Read back by a shell, the printed lines are the calls, quoted words and all.
    lived = (fake / "calls").read_text()
    (fake / "calls").unlink()
    (fake / "state").unlink(missing_ok=True)
    subprocess.run(["bash", "-c", dry], check=False, stderr=subprocess.DEVNULL)
    assert (fake / "calls").read_text() == lived


@pytest.mark.parametrize("script", [p.name for p in SCRIPTS if os.access(p, os.X_OK)])
def test_a_missing_variable_is_named_and_nothing_runs(script, fake):
    done = launch(script, "create")
    assert done.returncode != 0 and not calls(fake)
    missing = done.stderr.split(": ")[2]
    assert missing in {"NAME", "RUN", "CONFIG"}


def test_a_run_outside_of_gs_and_an_unknown_command_are_refused(fake):
    done = launch("tpu_vm.sh", "create", **{**SETTINGS, "RUN": "/tmp/a"})
    assert done.returncode == 2 and "expected gs://BUCKET/PATH" in done.stderr
    for script in ("tpu_vm.sh", "queued.sh", "mig.sh", "xpk.sh"):
        done = launch(script, "crate", **SETTINGS)
        assert done.returncode == 2 and done.stderr.startswith(
            f"usage: {script} create"
        )
    assert not calls(fake)


@pytest.mark.parametrize(
    ("script", "broken", "deleted"),
    [
        ("tpu_vm.sh", "create", ["tpu-vm delete wsvad"]),
        ("queued.sh", "create", ["queued-resources delete wsvad"]),
        (
            "mig.sh",
            "wait-until",
            ["managed delete wsvad", "policies delete wsvad", "templates delete wsvad"],
        ),
        ("mig.sh", "workload-policy", ["managed delete", "templates delete wsvad"]),
        ("xpk.sh", "create", ["cluster delete --cluster=wsvad"]),
    ],
)
def test_what_was_made_is_deleted_after_a_failure(script, broken, deleted, fake):
    (fake / f"fail.{broken}").touch()
    done = launch(script, "create", **SETTINGS, TOPOLOGY="4x4", HOSTS="4")
    assert done.returncode == 1
    for line in deleted:
        assert [c for c in calls(fake) if line in c], (line, calls(fake))


def test_a_deletion_that_fails_does_not_keep_the_rest(fake):
    (fake / "fail.managed").touch()
    assert launch("mig.sh", "delete", **SETTINGS, TOPOLOGY="4x4").returncode == 1
    assert count(fake, "resource-policies") == count(fake, "instance-templates") == 1


@pytest.mark.parametrize("script", ["tpu_vm.sh", "queued.sh", "mig.sh", "xpk.sh"])
def test_what_was_there_before_is_left_alone(script, fake):
    (fake / "state").write_text("ACTIVE\n")
    done = launch(script, "create", **SETTINGS)
    assert done.returncode == 2 and "NAME=wsvad is there already" in done.stderr
    assert count(fake, "create") == count(fake, "delete") == 0


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
def test_a_queued_request_that_ends_without_a_tpu_is_deleted(state, fake):
    (fake / "states").write_text(f"WAITING_FOR_RESOURCES\nPROVISIONING\n{state}\n")
    done = launch("queued.sh", "create", **SETTINGS)
    assert done.returncode == 1 and f"wsvad: {state}" in done.stderr
    assert calls(fake)[-1].startswith("compute tpus queued-resources delete wsvad")


def test_an_interrupted_wait_deletes_the_request(fake):
    (fake / "states").write_text("WAITING_FOR_RESOURCES\n")
    waiting = subprocess.Popen(
        ["bash", str(LAUNCH / "queued.sh"), "create"],
        env={**os.environ, **SETTINGS, "POLL": "0.1"},
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 30
    while count(fake, "describe") < 4 and time.monotonic() < until:
        time.sleep(0.05)
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(timeout=30) == 143
    assert count(fake, "delete") == 1


def test_spot_begins_again_until_the_run_is_done(fake):
    # First try: taken away while it runs; second: SIGTERM's code; third: done.
    (fake / "states").write_text("ACTIVE\nSUSPENDING\n")
    (fake / "exit").write_text("\n143\n0\n")
    done = launch("spot.sh", **SETTINGS)
    assert done.returncode == 0, done.stderr
    assert count(fake, "create") == count(fake, "delete") == 3
    assert calls(fake)[-1].startswith("compute tpus queued-resources delete")
    assert "try 1 of 20 ended: the hosts are gone" in done.stderr
    assert "try 2 of 20 ended: 143" in done.stderr


@pytest.mark.parametrize(
    ("exits", "code", "tries"), [("2\n", 2, 1), ("143\n143\n", 1, 2)]
)
def test_spot_ends_at_an_error_or_after_its_tries(exits, code, tries, fake):
    (fake / "states").write_text("ACTIVE\n")
    (fake / "exit").write_text(exits)
    assert launch("spot.sh", **SETTINGS, TRIES="2").returncode == code
    assert count(fake, "create") == count(fake, "delete") == tries


def test_spot_deletes_when_the_hosts_cannot_be_set_up(fake):
    (fake / "states").write_text("ACTIVE\n")
    (fake / "fail.ssh").touch()
    assert launch("spot.sh", **SETTINGS).returncode == 1
    assert count(fake, "create") == count(fake, "delete") == 1


def test_spot_with_a_group_of_instances(fake):
    (fake / "states").write_text("True\n")
    (fake / "exit").write_text("0\n")
    assert launch("spot.sh", **SETTINGS, HOW="mig").returncode == 0
    assert count(fake, "delete") == 2 and "templates delete" in calls(fake)[-1]


def test_slurm_puts_an_interrupted_job_back(fake):
    job = {**LOCAL, "SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(REPOSITORY)}
    srun = fake / "srun"
    srun.write_text("#!/bin/bash\nexit 143\n")
    assert launch("slurm.sh", **job).returncode == 143
    assert calls(fake) == ["requeue 7"]
    assert launch("slurm.sh", **job, SLURM_RESTART_COUNT="20").returncode == 143
    srun.write_text("#!/bin/bash\nexit 2\n")
    assert launch("slurm.sh", **job).returncode == 2
    assert calls(fake) == ["requeue 7"]


def test_gpus_goes_on_after_a_crash_and_not_after_an_error(fake):
    python = fake / "train"
    text = '#!/bin/bash\necho "$*" >>"$FAKE/calls"\nexit "$(sed -n 1p "$FAKE/code")"\n'
    python.write_text(text)
    python.chmod(0o755)
    for code, tries in (("139", 3), ("2", 1), ("0", 1)):
        (fake / "calls").unlink(missing_ok=True)
        (fake / "code").write_text(code)
        done = launch("gpus.sh", **LOCAL, PYTHON=str(python))
        assert done.returncode == int(code) and len(calls(fake)) == tries
    command = (
        "-m wsvad_jax.train --config=dsanet:ucf --workdir=/shared/it's here "
        "--data_dir=/shared/data"
    )
    assert calls(fake) == [command]


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


def test_a_host_saves_at_sigterm_and_another_goes_on(fake):
    (fake / "gcloud").write_text(STORAGE)
    (fake / "curl").write_text("#!/bin/bash\nexit 22\n")  # no metadata: host 0
    (fake / "curl").chmod(0o755)
    (fake / "bucket/data").mkdir(parents=True)
    (fake / "bucket/data/a").write_text("data")
    variables = {**SETTINGS, "RUN": "gs://bucket/run", "WSVAD_JAX_MULTIHOST": "1"}

    def start(home: str):
        python = fake / home / "wsvad_jax/state/venv/bin/python"
        python.parent.mkdir(parents=True)
        python.write_text(TRAIN)
        python.chmod(0o755)
        return subprocess.Popen(
            ["bash", str(LAUNCH / "worker.sh"), "train"],
            env={**os.environ, **variables, "HOME": str(fake / home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    first = start("first")
    until = time.monotonic() + 30
    while not (fake / "running").exists() and time.monotonic() < until:
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=30) == 143
    run = fake / "bucket/run"
    assert (run / "exit").read_text() == "143\n"
    assert (run / "workdir/saved").read_text() == "saved\n"
    assert "training 1" in (run / "log").read_text()
    assert (fake / "first/wsvad_jax/state/data/a").read_text() == "data"

    assert start("second").wait(timeout=30) == 0
    assert (run / "exit").read_text() == "0\n"
    command = (
        "-m wsvad_jax.train --config=dsanet:ucf --workdir state/workdir "
        "--config.seed=1 --data_dir state/data\n"
    )
    assert (run / "workdir/starts").read_text() == 2 * command


@pytest.mark.slow  # seconds a command
def test_gcloud_knows_the_commands():
    """Its own check of command lines, offline: nothing is asked of Google."""
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed: its check of the commands can't run")
    commands = []
    for golden in sorted(GOLDEN.glob("*.txt")):
        for line in shell_lines(golden.read_text()):
            words = shlex.split(line)
            if words[0] == "gcloud":
                # The check cuts at # and at newlines, within quotes too.
                words = [w.split("=")[0] + "=a=b" if " " in w else w for w in words]
                commands.append(shlex.join(words))
    commands = sorted(set(commands))
    assert len(commands) > 15
    found = lint(commands)
    wrong = {c["command_string"]: c["error_message"] for c in found if not c["success"]}
    assert not wrong
    assert len(found) == len(commands)


def shell_lines(text: str) -> list[str]:
    """The commands of a dry run, one of which has newlines in quotes."""
    lines, open_line = [], ""
    for line in text.splitlines():
        if not open_line and line.startswith("# "):
            continue
        open_line += line
        if open_line.count("'") % 2 == 0:
            lines.append(open_line)
            open_line = ""
        else:
            open_line += "\n"
    return lines


def lint(commands: list[str]) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "commands.json"
        path.write_text(json.dumps([{"command_string": c} for c in commands]))
        found = subprocess.run(
            ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={path}"],
            env={**os.environ, "CLOUDSDK_CONFIG": folder},
            capture_output=True,
            check=False,
            text=True,
            timeout=600,
        )
    if found.returncode and not found.stdout:
        pytest.skip(f"this gcloud has no such check: {found.stderr[:200]}")
    return json.loads(found.stdout)


def test_multihost_is_asked_for_by_flag_or_variable(monkeypatch, tmp_path):
    import jax

    from wsvad_jax import cli, evaluate, train
    from wsvad_jax.errors import InputError

    started = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda: started.append(1))
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
        cli.start_hosts(False)


def test_multihost_alone_and_under_slurm():
    code = (
        "import jax; from wsvad_jax import cli; cli.start_hosts(True);"
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
