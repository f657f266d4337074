#!/usr/bin/env bash
# Runs on every host, started by the other scripts: worker.sh install, train or both.
# The program uses local folders. Host 0 copies the workdir to $RUN every minute, and a new
# host starts from that copy.
set -euo pipefail
: "${RUN:?gs://BUCKET/PATH of the run}" "${CONFIG:?a recipe such as dsanet:ucf}"
cd "${HOME:-/root}/wsvad_jax" && mkdir -p state/data state/workdir
exec > >(trap '' TERM INT && exec tee -a state/log) 2>&1

install() { # images of TPU VMs have Python 3.10, which is too old
  export PATH=$PWD/state/bin:$PATH UV_INSTALL_DIR=$PWD/state/bin
  command -v uv || curl -LsSf https://astral.sh/uv/install.sh | sh
  uv venv --quiet --allow-existing --python 3.12 state/venv
  uv pip install --quiet --python state/venv/bin/python ".[${EXTRA:-tpu}]"
}

push() { # half-written checkpoints stay here
  gcloud storage rsync --recursive --exclude='.*orbax-checkpoint-tmp.*' \
    state/workdir "$RUN/workdir" && gcloud storage cp state/log "$RUN/log"
}

train() {
  local code=0 copies='' number meta=http://metadata.google.internal/computeMetadata/v1
  [ -z "${DATA:-}" ] || gcloud storage rsync --recursive "$DATA" state/data
  if [ -z "$(ls state/workdir)" ] && gcloud storage ls "$RUN/workdir"; then
    gcloud storage rsync --recursive "$RUN/workdir" state/workdir
  fi
  number=${TPU_WORKER_ID:-$(curl -sf -H 'Metadata-Flavor: Google' \
    $meta/instance/attributes/agent-worker-number || echo 0)}
  [ "$number" != 0 ] ||
    { while sleep 60; do push || :; done >/dev/null 2>&1 & copies=$!; }
  read -ra more <<<"${ARGS:-} --data_dir state/data"
  state/venv/bin/python -m wsvad_jax.train "--config=$CONFIG" \
    --workdir state/workdir "${more[@]}" & pid=$! && trap 'kill "$pid"' TERM INT
  wait "$pid" || code=$?
  if kill -0 "$pid" 2>/dev/null; then code=0 && { wait "$pid" || code=$?; }; fi
  [ -z "$copies" ] || { kill "$copies"; push; gcloud storage cp - "$RUN/exit" <<<$code; }
  exit "$code"
}
for step; do "$step"; done
