#!/usr/bin/env bash
# A TPU VM on demand: tpu_vm.sh create | setup | run | watch | delete (README.md).
# It is billed from create to delete, even if it is idle.
set -euo pipefail
# shellcheck source=launch/hosts.sh
source "$(dirname "$0")/hosts.sh"
tpu() {
  run gcloud compute tpus tpu-vm "$1" "$NAME" "--zone=$ZONE" "--project=$PROJECT" \
    "${@:2}"
}

case ${1:-} in
  create)
    : "${TYPE:?a type such as v5litepod-8 or v6e-8}"
    absent tpu describe
    undo() { tpu delete --quiet; }
    tpu create "--accelerator-type=$TYPE" "--version=$(runtime "$TYPE")"
    ;;
  setup)
    upload
    tpu ssh --worker=all "--command=$(host_line install)"
    ;;
  run) # continues when the connection closes
    line="nohup bash -c $(quoted "$(host_line train)") >/dev/null 2>&1 </dev/null &"
    tpu ssh --worker=all "--command=$line"
    ;;
  watch) tpu ssh --worker=0 "--command=tail -n 20 -F wsvad_jax/state/log" ;;
  delete) tpu delete --quiet ;;
  *) echo "usage: tpu_vm.sh create|setup|run|watch|delete" >&2 && exit 2 ;;
esac
