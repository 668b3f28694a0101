#!/bin/bash

# Parameters
#SBATCH --chdir=/outputs/debug/0123456789ab
#SBATCH --comment='mmhydra run=0123456789ab config=cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc code=5555555555555555555555555555555555555555555555555555555555555555'
#SBATCH --cpus-per-task=1
#SBATCH --error=/outputs/debug/0123456789ab/slurm/%j_0_log.err
#SBATCH --gpus-per-node=4
#SBATCH --job-name=debug-0123456789ab
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output=/outputs/debug/0123456789ab/slurm/%j_0_log.out
#SBATCH --partition=main
#SBATCH --requeue
#SBATCH --signal=USR2@60
#SBATCH --time=30

# setup
# Run 0123456789ab (debug); its config, code and data are frozen, nothing else is read
MMHYDRA_JOB=$SLURM_JOB_ID
MMHYDRA_FOLDER=/outputs/debug/0123456789ab/slurm
MMHYDRA_SUBMITTED_ATTEMPT=/outputs/debug/0123456789ab/attempts/0001
MMHYDRA_CODE=/outputs/.store/code/0/x
unset MMHYDRA_ATTEMPT MMHYDRA_END_TIME RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT PYTHONSTARTUP
export SLURM_EXPORT_ENV=ALL # what is exported here reaches the ranks, whatever sbatch was told
export MMHYDRA_FOLDER MMHYDRA_SUBMITTED_ATTEMPT
export OMP_NUM_THREADS=1
export PYTHONPATH="$MMHYDRA_CODE${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1

# SLURM ends a script by SIGTERM when it preempts its job: this one first waits for the ranks to save.
trap : TERM
mmhydra_job() {
    PYTHON -m mmhydra.job "$@"
}
job_field() {
    scontrol --oneliner show job "$MMHYDRA_JOB" | grep --only-matching --perl-regexp " $1=\\K[^ ]+"
}
finish() { # $1: what srun returned, or `preflight`; $2: the code if nobody can tell
    verdict=$(mmhydra_job end "$MMHYDRA_ATTEMPT" "$1" "$(job_field JobState)") || verdict="$2 stop"
    read -r code action nodes <<<"$verdict" # nodes: to keep away from
    if [ "$action" = requeue ]; then
        trap '' TERM # requeueing ends this script, which has a line to go
        scontrol requeue "$MMHYDRA_JOB" || exit "$code"
        [ -z "$nodes" ] || scontrol update JobId="$MMHYDRA_JOB" ExcNodeList="$nodes"
    fi
    exit "${code:-1}"
}
# When does the allocation end?
ends=$(job_field EndTime) && MMHYDRA_END_TIME=$(date -d "$ends" +%s) && export MMHYDRA_END_TIME

# Which attempt is this? The submitted one, or the next one of a job that was requeued.
MMHYDRA_ATTEMPT=$(mmhydra_job begin "$MMHYDRA_SUBMITTED_ATTEMPT") || exit
export MMHYDRA_ATTEMPT

# For submitit, unless it has written one for this job.
pickle="$MMHYDRA_FOLDER/${MMHYDRA_JOB}_submitted.pkl"
[ -e "$pickle" ] || cp "$MMHYDRA_FOLDER/bridge.pkl" "$pickle"

# Is each node fit to compute?
timeout --kill-after=10 180 srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --kill-on-bad-exit=0 --wait=0 --cpus-per-task=1 \
    PYTHON -m mmhydra.job preflight "$MMHYDRA_ATTEMPT" 120
case $? in
0) ;;
75) finish 75 75 ;;
*) finish preflight 1 ;;
esac

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /outputs/debug/0123456789ab/slurm/%j_%t_log.out --error /outputs/debug/0123456789ab/slurm/%j_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=1 PYTHON -u -m submitit.core._submit /outputs/debug/0123456789ab/slurm


# teardown
code=$?
finish "$code" "$code"