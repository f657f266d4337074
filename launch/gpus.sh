#!/usr/bin/env bash
# Trains on the GPUs of one machine: CONFIG=dsanet:ucf WORKDIR=runs/a gpus.sh
# One process uses all GPUs; GPUS=0,1 selects some. After a crash, the run resumes from its
# last checkpoint, at most TRIES times. There is nothing to delete afterwards.
set -euo pipefail
: "${CONFIG:?a recipe such as dsanet:ucf}" "${WORKDIR:?a folder for the run}"
# shellcheck source=launch/lib.sh
source "$(dirname "$0")/lib.sh"
read -ra more <<<"${DATA:+--data_dir=$DATA }${ARGS:-}"

for ((i = 1; i <= ${TRIES:-3}; i++)); do
  code=0
  run env ${GPUS:+"CUDA_VISIBLE_DEVICES=$GPUS"} "${PYTHON:-python}" -m wsvad_jax.train \
    "--config=$CONFIG" "--workdir=$WORKDIR" ${more[@]+"${more[@]}"} || code=$?
  again "$code" || exit "$code"
  echo "try $i of ${TRIES:-3} ended with $code" >&2
done
exit "$code"
