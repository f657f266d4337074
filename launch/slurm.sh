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
# One process per GPU, on one or several nodes: CONFIG=dsanet:ucf WORKDIR=/shared/runs/a
# sbatch launch/slurm.sh (options such as --nodes=2 precede the script). All nodes must
# see WORKDIR and DATA. The run gets SIGTERM when the job is preempted, or 120 s before
# its time limit. The job then requeues itself.
set -euo pipefail
: "${CONFIG:?a recipe such as dsanet:ucf}" "${WORKDIR:?a folder that all nodes see}"
# Slurm runs a copy of this file; the folder of sbatch is the one with launch/.
# shellcheck source=launch/lib.sh
source "${SLURM_SUBMIT_DIR:-.}/launch/lib.sh"
read -ra more <<<"${DATA:+--data_dir=$DATA }${ARGS:-}"
export WSVAD_JAX_MULTIHOST=1 # JAX takes address and ranks from Slurm's variables
trap '' TERM                 # for the run, not for this script
code=0
# Every task sees all GPUs of its node and takes the one with its local number.
run srun --gpu-bind=none --kill-on-bad-exit=1 "${PYTHON:-python}" -m wsvad_jax.train \
  "--config=$CONFIG" "--workdir=$WORKDIR" ${more[@]+"${more[@]}"} || code=$?
if again "$code" && [ "${SLURM_RESTART_COUNT:-0}" -lt "${TRIES:-20}" ]; then
  run scontrol requeue "${SLURM_JOB_ID:?set by Slurm}"
fi
exit "$code"
