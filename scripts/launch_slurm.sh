#!/bin/bash
# One run on several nodes of a SLURM cluster, one process for each accelerator:
#
#     sbatch --nodes 2 --ntasks-per-node 4 --gpus-per-node 4 scripts/launch_slurm.sh \
#         python experiments/quickstart.py --data cifar10 --steps 20000 --devices 8 --batch-size 256 --out runs/cifar10
#
# The processes find each other through SLURM (gan_jax.training.distributed). --devices counts those of all nodes. Before the time is over, or
# when the job is preempted, SLURM sends SIGTERM: the run saves and stops, and the job goes back into the queue, to go on from
# there. After a lost node it goes on from the last checkpoint, at most RESTARTS times. Ask for GPUs by the node: with
# --gpus-per-task each process sees one alone, numbered 0, where JAX expects the number of the process on its node.
#SBATCH --job-name=gan_jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@180
#SBATCH --output=%x-%j.log

RESTARTS=${RESTARTS:-10}
if [ $# -eq 0 ]; then
    echo "usage: sbatch [options] $0 python experiments/quickstart.py --devices N --out runs/NAME ..." >&2
    exit 2
fi

# srun exits with the highest code of all processes. It ends the others when one ends badly, and that must not hide a
# mistake (2) or a failure (1), which trying again does not mend: their codes are raised on the way.
task='trap : TERM; "$@"; code=$?; case $code in 1 | 2) exit $((code + 200)) ;; esac; exit $code'
trap '' TERM # this shell waits for the processes to save
srun --kill-on-bad-exit=1 bash -c "$task" task "$@" --resume
code=$?
[ $code -gt 200 ] && code=$((code - 200))

# 143: stopped by SIGTERM with a checkpoint; 75: a process was lost, 137: killed, 134: JAX aborted, as it does where process 0
# is gone. Others (0: done, 1: a loss that is not finite or a failure, 2: a mistake in the command) are final.
case $code in 143 | 75 | 137 | 134) again=yes ;; *) again=no ;; esac
if [ $again = yes ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$RESTARTS" ]; then
    echo "exit code $code: back into the queue (restart ${SLURM_RESTART_COUNT:-0} of at most $RESTARTS)"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
