#!/usr/bin/env bash
# Starts a command once per task of this Slurm job, and ends as Slurm must see it. Called by `launcher` in config.yaml.
#
# A training that was told to stop has saved and exits with 128 + the signal's number:
#   138 USR1  the time limit is near: the job goes back into the queue under its own id, and Snakemake goes on waiting for it
#   143 TERM  scancel, pre-emption or a lost node: wait until Slurm ends the job; ending first would turn a requeue into a failure
set -u

facts=$(scontrol show job "$SLURM_JOB_ID") || exit 1
fact() { grep -oP "\b$1=\K[0-9]+" <<<"$facts" | head -n 1; }
nodes=$(fact NumNodes) tasks=$(fact NumTasks) cpus=$(fact CPUs/Task) restarts=$(fact Restarts)
echo "Slurm job $SLURM_JOB_ID, restarts ${restarts:-0}: $tasks task(s) on $nodes node(s), $cpus CPUs each" >&2

# A session of its own: a signal to the whole job reaches the tasks through Slurm, and must not make srun abort them.
# After the first task has ended the others get a minute: to end in their own way, or to be killed if they hang.
trap : TERM USR1
setsid --wait srun --nodes="$nodes" --ntasks="$tasks" --ntasks-per-node=$((tasks / nodes)) --cpus-per-task="$cpus" \
  --kill-on-bad-exit=0 --wait=60 "$@"
code=$?

case $code in
138)
  echo "back into the queue: scontrol requeue $SLURM_JOB_ID" >&2
  scontrol requeue "$SLURM_JOB_ID" || exit $code
  ;;
143) echo "waiting for Slurm to end or to requeue job $SLURM_JOB_ID" >&2 ;;
*) exit $code ;;
esac
for ((second = 0; second < 600; second++)); do sleep 1; done
exit $code
