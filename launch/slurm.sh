#!/usr/bin/env bash
#SBATCH --job-name=wsvad_jax
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
# One process a GPU, on one node or several: CONFIG=dsanet:ucf WORKDIR=/shared/runs/a
# sbatch launch/slurm.sh (with --nodes=2 and so on before the script). WORKDIR and DATA
# lie on a file system that all nodes see. 120 s before the time is up, or when the job is
# preempted, the run gets SIGTERM; the job then goes back into the queue by itself.
set -euo pipefail
: "${CONFIG:?a recipe, as dsanet:ucf}" "${WORKDIR:?a folder that all nodes see}"
# Slurm runs a copy of this file; the folder of sbatch is the one with launch/.
# shellcheck source=launch/lib.sh
source "${SLURM_SUBMIT_DIR:-.}/launch/lib.sh"
read -ra more <<<"${DATA:+--data_dir=$DATA }${ARGS:-}"
export WSVAD_JAX_MULTIHOST=1 # JAX takes address and ranks from Slurm's variables
trap '' TERM                 # it is the run's, not this script's
code=0
# Every task sees all GPUs of its node and takes the one with its local number.
run srun --gpu-bind=none --kill-on-bad-exit=1 "${PYTHON:-python}" -m wsvad_jax.train \
  "--config=$CONFIG" "--workdir=$WORKDIR" ${more[@]+"${more[@]}"} || code=$?
if again "$code" && [ "${SLURM_RESTART_COUNT:-0}" -lt "${TRIES:-20}" ]; then
  run scontrol requeue "${SLURM_JOB_ID:?set by Slurm}"
fi
exit "$code"
