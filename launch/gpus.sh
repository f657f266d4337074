#!/usr/bin/env bash
# One machine with several GPUs, or with one: CONFIG=dsanet:ucf WORKDIR=runs/a gpus.sh
# One process drives them all; GPUS=0,1 takes some. After a crash the run goes on from its
# last checkpoint, TRIES times at most; nothing is made that would have to be deleted.
set -euo pipefail
: "${CONFIG:?a recipe, as dsanet:ucf}" "${WORKDIR:?a folder for the run}"
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
