#!/usr/bin/env bash
# A queued request for a TPU VM: queued.sh create | start | state | delete; then setup,
# run and watch of tpu_vm.sh with the same NAME (start: setup and run). SPOT=1 asks for
# spot capacity. create waits until the TPU VM is there; a request that fails, is
# interrupted or isn't met in WAIT is deleted.
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
    : "${TYPE:?as v5litepod-8 or v6e-8}"
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
