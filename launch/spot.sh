#!/usr/bin/env bash
# Creates hosts on spot capacity (on demand with SPOT=), runs a training and deletes them.
# After a preemption it deletes the remains and starts again, at most TRIES times; the run
# resumes from its last checkpoint. HOW is queued (the default) or mig. However the script
# ends, it deletes the hosts.
set -euo pipefail
export SPOT=${SPOT-1}
# shellcheck source=launch/hosts.sh
source "$(dirname "$0")/hosts.sh"
how="$here/${HOW:-queued}.sh"

ended() { # waits for the run's exit code; leaves code empty if the hosts are gone
  local state failures=0
  while [ "$failures" -lt 5 ]; do
    code=$(run gcloud storage cat "$RUN/exit" 2>/dev/null) && return
    if state=$("$how" state); then
      [ "$state" = ACTIVE ] || return 0
      failures=0
    else # the hosts are gone, or only the connection
      failures=$((failures + 1))
    fi
    sleep "${POLL:-60}"
  done
}

for ((i = 1; i <= ${TRIES:-20}; i++)); do
  "$how" create # deletes after a failure of its own
  undo() { "$how" delete; }
  # A failed start ends the script, unless the hosts are gone.
  if ! "$how" start; then [ "$("$how" state)" != ACTIVE ]; else ended; fi
  undo
  unset -f undo
  if [ -n "${DRY_RUN:-}" ]; then exit 0; fi
  again "${code:=}" || exit "$code"
  echo "try $i of ${TRIES:-20} ended: ${code:-the hosts are gone}" >&2 && code=
done
exit 1
