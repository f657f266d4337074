"""The launch scripts: what they would run, what they delete, and what a host does."""

import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
from fake_gcloud import (
    LAUNCH,
    LOCAL,
    REPOSITORY,
    SCRIPTS,
    SETTINGS,
    calls,
    count,
    launch,
)

GOLDEN = pathlib.Path(__file__).parent / "launch"
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
def test_dry_run_prints_what_would_run(name, cloud):
    script, variables, commands = CASES[name]
    printed = ""
    for command in commands.split() or [""]:
        done = launch(script, *filter(None, [command]), DRY_RUN="1", **variables)
        assert done.returncode == 0, done.stderr
        printed += f"# {script} {command}".rstrip() + f"\n{done.stdout}"
    printed = printed.replace(str(REPOSITORY), "REPOSITORY")
    assert not calls(cloud)
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(printed)
    assert printed == golden.read_text()


@pytest.mark.parametrize("name", ["tpu_vm", "queued", "mig_slice", "xpk"])
def test_what_dry_run_prints_is_what_runs(name, cloud):
    script, variables, _ = CASES[name]
    (cloud / "states").write_text("ACTIVE\n")
    assert launch(script, "create", **variables).returncode == 0
    dry = launch(script, "create", DRY_RUN="1", **variables).stdout
    # Read back by a shell, the printed lines are the calls, quoted words and all.
    lived = (cloud / "calls").read_text()
    (cloud / "calls").unlink()
    (cloud / "state").unlink(missing_ok=True)
    subprocess.run(["bash", "-c", dry], check=False, stderr=subprocess.DEVNULL)
    assert (cloud / "calls").read_text() == lived


@pytest.mark.parametrize("script", [p.name for p in SCRIPTS if os.access(p, os.X_OK)])
def test_a_missing_variable_is_named_and_nothing_runs(script, cloud):
    done = launch(script, "create")
    assert done.returncode != 0 and not calls(cloud)
    missing = done.stderr.split(": ")[2]
    assert missing in {"NAME", "RUN", "CONFIG"}


def test_a_run_outside_of_gs_and_an_unknown_command_are_refused(cloud):
    done = launch("tpu_vm.sh", "create", **{**SETTINGS, "RUN": "/tmp/a"})
    assert done.returncode == 2 and "expected gs://BUCKET/PATH" in done.stderr
    for script in ("tpu_vm.sh", "queued.sh", "mig.sh", "xpk.sh"):
        done = launch(script, "crate", **SETTINGS)
        assert done.returncode == 2 and done.stderr.startswith(
            f"usage: {script} create"
        )
    assert not calls(cloud)


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
def test_what_was_made_is_deleted_after_a_failure(script, broken, deleted, cloud):
    (cloud / f"fail.{broken}").touch()
    done = launch(script, "create", **SETTINGS, TOPOLOGY="4x4", HOSTS="4")
    assert done.returncode == 1
    for line in deleted:
        assert [c for c in calls(cloud) if line in c], (line, calls(cloud))


def test_a_deletion_that_fails_does_not_keep_the_rest(cloud):
    (cloud / "fail.managed").touch()
    assert launch("mig.sh", "delete", **SETTINGS, TOPOLOGY="4x4").returncode == 1
    assert count(cloud, "resource-policies") == count(cloud, "instance-templates") == 1


@pytest.mark.parametrize("script", ["tpu_vm.sh", "queued.sh", "mig.sh", "xpk.sh"])
def test_what_was_there_before_is_left_alone(script, cloud):
    (cloud / "state").write_text("ACTIVE\n")
    done = launch(script, "create", **SETTINGS)
    assert done.returncode == 2 and "NAME=wsvad exists already" in done.stderr
    assert count(cloud, "create") == count(cloud, "delete") == 0


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
def test_a_queued_request_that_ends_without_a_tpu_is_deleted(state, cloud):
    (cloud / "states").write_text(f"WAITING_FOR_RESOURCES\nPROVISIONING\n{state}\n")
    done = launch("queued.sh", "create", **SETTINGS)
    assert done.returncode == 1 and f"wsvad: {state}" in done.stderr
    assert calls(cloud)[-1].startswith("compute tpus queued-resources delete wsvad")


def test_an_interrupted_wait_deletes_the_request(cloud):
    (cloud / "states").write_text("WAITING_FOR_RESOURCES\n")
    waiting = subprocess.Popen(
        ["bash", str(LAUNCH / "queued.sh"), "create"],
        env={**os.environ, **SETTINGS, "POLL": "0.1"},
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 30
    while count(cloud, "describe") < 4 and time.monotonic() < until:
        time.sleep(0.05)
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(timeout=30) == 143
    assert count(cloud, "delete") == 1


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
