#!/usr/bin/env bash
# TPU VMs in a managed instance group of Compute Engine (v5p, v6e and later):
# mig.sh create | state | watch | delete. One host, or with TOPOLOGY=4x4 HOSTS=4 a slice
# of several. The startup script starts the training, also after a restart.
set -euo pipefail
# shellcheck source=launch/hosts.sh
source "$(dirname "$0")/hosts.sh"
MULTIHOST=${MULTIHOST-${TOPOLOGY:+1}}
zone="--zone=$ZONE" && region="--region=${ZONE%-*}"
compute() { run gcloud compute "$@" "--project=$PROJECT"; }
policy() { compute resource-policies "$@"; }
group() { compute instance-groups managed "$1" "$NAME" "$zone" "${@:2}"; }
remove() { # in reverse order; continues if something is missing
  local code=0
  group delete --quiet || code=1
  [ -z "${TOPOLOGY:-}" ] || policy delete "$NAME" "$region" --quiet || code=1
  compute instance-templates delete "$NAME" --quiet && return "$code"
}
case ${1:-} in
  create)
    absent compute instance-templates describe "$NAME" && absent group describe
    undo() { remove; }
    upload
    startup=$'#!/bin/bash\nexport HOME=/root; '$(host_line install train)
    compute instance-templates create "$NAME" --scopes=cloud-platform \
      "--machine-type=${MACHINE:-ct6e-standard-4t}" --maintenance-policy=TERMINATE \
      ${SPOT:+--provisioning-model=SPOT --instance-termination-action=STOP} \
      --boot-disk-size=200GB --image-project=ubuntu-os-accelerator-images \
      --image-family=ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e \
      "--metadata=^@@^startup-script=$startup"
    [ -z "${TOPOLOGY:-}" ] || policy create workload-policy "$NAME" "$region" \
      --type=HIGH_THROUGHPUT "--accelerator-topology=$TOPOLOGY"
    group create "--template=$NAME" "--size=${HOSTS:-1}" ${TOPOLOGY:+--workload-policy="$NAME"}
    group wait-until --stable --timeout=21600 ;;
  state) group describe "--format=value(status.isStable)" | sed s/True/ACTIVE/ ;;
  start) ;; # the startup script has done it
  watch) run gcloud storage cat "$RUN/log" ;;
  delete) remove ;;
  *) echo "usage: mig.sh create|start|state|watch|delete" >&2 && exit 2 ;;
esac
