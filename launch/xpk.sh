#!/usr/bin/env bash
# A GKE cluster through XPK (pip install xpk; it needs Docker and kubectl):
# xpk.sh create | run | watch | delete. SPOT=1 requests spot capacity. GKE restarts a run
# up to TRIES times if its hosts are preempted. The cluster stays until delete.
set -euo pipefail
# shellcheck source=launch/hosts.sh
source "$(dirname "$0")/hosts.sh"
where=("--cluster=$NAME" "--project=$PROJECT" "--zone=$ZONE")
xpk_run() { run xpk "$1" "$2" "${where[@]}" "${@:3}"; }

case ${1:-} in
  create)
    : "${TYPE:?a type such as v5litepod-16 or v6e-16}"
    absent run gcloud container clusters describe "$NAME" "--region=${ZONE%-*}" \
      "--project=$PROJECT"
    undo() { xpk_run cluster delete --force; }
    capacity=--on-demand
    [ -z "${SPOT:-}" ] || capacity=--spot
    xpk_run cluster create "--tpu-type=$TYPE" "--num-slices=${SLICES:-1}" $capacity
    ;;
  run)
    : "${TYPE:?a type such as v5litepod-16 or v6e-16}"
    upload
    # The image has gcloud, which fetches the code, so no image must be built.
    xpk_run workload create "--workload=$NAME" "--tpu-type=$TYPE" \
      "--num-slices=${SLICES:-1}" "--max-restarts=${TRIES:-20}" \
      --restart-on-exit-codes=75 --docker-image=google/cloud-sdk:slim \
      "--command=$(host_line install train)"
    ;;
  watch) xpk_run workload list "--wait-for-job-completion=$NAME" ;;
  delete) xpk_run cluster delete --force ;;
  *) echo "usage: xpk.sh create|run|watch|delete" >&2 && exit 2 ;;
esac
