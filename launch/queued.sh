#!/usr/bin/env bash
# A queued request for a TPU VM: queued.sh create | start | state | delete. start is setup
# and run of tpu_vm.sh with the same NAME; watch is there, too. SPOT=1 requests spot
# capacity. create waits for the TPU VM. It deletes a request that fails, is interrupted
# or takes longer than WAIT.
set -euo pipefail
# shellcheck source=launch/hosts.sh
source "$(dirname "$0")/hosts.sh"
queue() {
  run gcloud compute tpus queued-resources "$1" "$NAME" "--zone=$ZONE" \
    "--project=$PROJECT" "${@:2}"
}
state() { queue describe "--format=value(state.state)"; }

case ${1:-} in
  create)
    : "${TYPE:?a type such as v5litepod-8 or v6e-8}"
    absent queue describe
    undo() { queue delete --force --quiet; }
    queue create "--node-id=$NAME" "--accelerator-type=$TYPE" \
      "--runtime-version=$(runtime "$TYPE")" "--valid-until-duration=${WAIT:-6h}" \
      ${SPOT:+--spot}
    while now=$(state) || now=unknown && [ -z "${DRY_RUN:-}" ]; do
      case $now in
        ACTIVE) break ;;
        FAILED | SUSPEND*) echo "$NAME: $now" >&2 && exit 1 ;;
      esac
      sleep "${POLL:-60}"
    done
    ;;
  start) "$here/tpu_vm.sh" setup && "$here/tpu_vm.sh" run ;;
  state) state ;;
  delete) queue delete --force --quiet ;;
  *) echo "usage: queued.sh create|start|state|delete" >&2 && exit 2 ;;
esac
