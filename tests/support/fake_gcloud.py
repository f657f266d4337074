"""Runs launch/ scripts with a gcloud that only records its arguments."""

import os
import pathlib
import subprocess

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
LAUNCH = REPOSITORY / "launch"
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


def pretend(folder: pathlib.Path) -> None:
    """Writes programs gcloud, xpk, git and srun that record their arguments."""
    for name in ("gcloud", "xpk", "git", "srun", "scontrol"):
        path = folder / name
        path.write_text(FAKE_GCLOUD)
        path.chmod(0o755)


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


def calls(cloud: pathlib.Path) -> list[str]:
    path = cloud / "calls"
    return path.read_text().splitlines() if path.exists() else []


def count(cloud: pathlib.Path, word: str) -> int:
    return sum(f" {word} " in f" {line} " for line in calls(cloud))
