#!/bin/bash
# A run on GPUs of a SLURM cluster: sbatch launch/slurm.sh train CONFIG --out /shared/runs/NAME
# Sizes are those of the lines below, or of options before the script: sbatch --nodes=4 launch/slurm.sh
# ... The checkout and --out must be on a disk that all nodes share, or --out in a bucket.
# Not run by its authors: no cluster was at hand.
#SBATCH --job-name=rbs
#SBATCH --nodes=2
# One process for each GPU, which is how JAX reads SLURM's variables: the two numbers are equal. A
# process takes the GPU of its local number, so every process must see all of its node's: no
# --gpus-per-task, no --gpu-bind.
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# The processes, not this script, get SIGTERM so many seconds before the time is up, and save.
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
set -u
MOST=${MOST:-100} # times that SLURM starts the job again
PYTHON=${PYTHON:-.venv/bin/python}
cd "${SLURM_SUBMIT_DIR:?start it with sbatch, in the checkout}" || exit 2
trap : TERM # of a preemption: wait for the processes, which get it as well

srun --kill-on-bad-exit=0 "$PYTHON" launch/tpu.py "$@" &
srun=$!
wait "$srun"
status=$?
while kill -0 "$srun" 2>/dev/null; do # a signal ended that wait, not srun
  wait "$srun"
  status=$?
done

# 0 is done, 2 a user's mistake. Of several processes srun has the largest: 75 where a checkpoint
# was saved on SIGTERM, 134 or more where a process died.
if [ "$status" -eq 0 ] || [ "$status" -eq 2 ]; then
  exit "$status"
fi
if [ "${SLURM_RESTART_COUNT:-0}" -ge "$MOST" ]; then
  echo "slurm.sh: exit status $status after $MOST restarts" >&2
  exit "$status"
fi
echo "slurm.sh: exit status $status, so the job is queued again" >&2
scontrol requeue "$SLURM_JOB_ID"
