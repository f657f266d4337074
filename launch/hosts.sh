# shellcheck shell=bash
# Sourced by the scripts that rent hosts: the commands that the hosts run.
# shellcheck source=launch/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
: "${NAME:?a name for the hosts}" "${ZONE:?a zone such as us-west4-a}" "${PROJECT:?the project to bill}"
: "${RUN:?gs://BUCKET/PATH for the code, workdir, log and exit code of the run}"
: "${CONFIG:?a recipe such as dsanet:ucf}"
case $RUN in
  gs://?*/?*) ;;
  *) echo "RUN=$RUN: expected gs://BUCKET/PATH" >&2 && exit 2 ;;
esac

runtime() { # software version of a TPU type: https://cloud.google.com/tpu/docs/runtimes
  case $1 in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    *) echo tpu-ubuntu2204-base ;;
  esac
}

upload() { # uploads git's HEAD and removes the exit code of an older run
  run git -C "${here%/*}" archive --format=tar.gz --output=/tmp/wsvad_jax.tar.gz HEAD
  run gcloud storage cp /tmp/wsvad_jax.tar.gz "$RUN/code.tar.gz"
  run gcloud storage rm "$RUN/exit" 2>/dev/null || true
}

host_line() { # prints a host's command line, which fetches the code and runs worker.sh
  local settings=("RUN=$RUN" "CONFIG=$CONFIG" "DATA=${DATA:-}" "ARGS=${ARGS:-}"
    "WSVAD_JAX_MULTIHOST=${MULTIHOST-1}")
  echo "mkdir -p ~/wsvad_jax &&" \
    "gcloud storage cat $(quoted "$RUN/code.tar.gz") | tar xz -C ~/wsvad_jax &&" \
    "env $(quoted "${settings[@]}") bash ~/wsvad_jax/launch/worker.sh $*"
}
