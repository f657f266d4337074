#!/usr/bin/env bash
# From nothing to the end of a run and back to nothing, on spot capacity (SPOT= on
# demand): creates, starts, watches. When the hosts are taken away it deletes what is left
# and begins again, TRIES times at most; the run goes on from its last checkpoint.
# HOW=queued (the default) or mig. However it ends, it deletes.
set -euo pipefail
export SPOT=${SPOT-1}
# shellcheck source=launch/hosts.sh
source "$(dirname "$0")/hosts.sh"
how="$here/${HOW:-queued}.sh"

ended() { # waits for the run's exit code; code stays empty where the hosts are gone
  local state failures=0
  while [ "$failures" -lt 5 ]; do
    code=$(run gcloud storage cat "$RUN/exit" 2>/dev/null) && return
    if state=$("$how" state); then
      [ "$state" = ACTIVE ] || return 0
      failures=0
    else # gone, or only the connection is
      failures=$((failures + 1))
    fi
    sleep "${POLL:-60}"
  done
}

for ((i = 1; i <= ${TRIES:-20}; i++)); do
  "$how" create # which deletes after its own failure
  undo() { "$how" delete; }
  # A start that fails is a fault of ours, unless the hosts are gone.
  if ! "$how" start; then [ "$("$how" state)" != ACTIVE ]; else ended; fi
  undo
  unset -f undo
  if [ -n "${DRY_RUN:-}" ]; then exit 0; fi
  again "${code:=}" || exit "$code"
  echo "try $i of ${TRIES:-20} ended: ${code:-the hosts are gone}" >&2 && code=
done
exit 1
