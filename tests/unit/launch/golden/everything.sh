#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --chdir=/outputs/all/0123456789ab
#SBATCH --comment='it'"'"'s "quoted" $HOME `date` \ ü世 * mmhydra run=0123456789ab config=cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc code=5555555555555555555555555555555555555555555555555555555555555555'
#SBATCH --constraint='h100&ib'
#SBATCH --cpus-per-task=4
#SBATCH --dependency=afterok:1234:1235,singleton
#SBATCH --error=/outputs/all/0123456789ab/slurm/%j_0_log.err
#SBATCH --exclude='gpu[01-03],gpu9'
#SBATCH --exclusive
#SBATCH --gpus-per-node=4
#SBATCH --hold
#SBATCH --job-name=all-0123456789ab
#SBATCH --mail-type=END
#SBATCH --mem=102912M
#SBATCH --nice=100
#SBATCH --no-requeue
#SBATCH --nodelist=gpu07
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output=/outputs/all/0123456789ab/slurm/%j_0_log.out
#SBATCH --partition=main
#SBATCH --qos=high
#SBATCH --reservation=maint
#SBATCH --signal=USR2@60
#SBATCH --time=30

# setup
# Run 0123456789ab (all); its config, code and data are frozen, nothing else is read
MMHYDRA_JOB=$SLURM_JOB_ID
MMHYDRA_FOLDER=/outputs/all/0123456789ab/slurm
MMHYDRA_SUBMITTED_ATTEMPT=/outputs/all/0123456789ab/attempts/0001
MMHYDRA_CODE=/outputs/.store/code/0/x
module() { :; }
module load 'cuda 12'
unset MMHYDRA_ATTEMPT MMHYDRA_END_TIME RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT PYTHONSTARTUP
export SLURM_EXPORT_ENV=ALL # what is exported here reaches the ranks, whatever sbatch was told
export MMHYDRA_FOLDER MMHYDRA_SUBMITTED_ATTEMPT
export OMP_NUM_THREADS=4
export NCCL_DEBUG=INFO
export ODD='it'"'"'s "quoted" $HOME `date` \ ü世 *'
export PYTHONPATH="$MMHYDRA_CODE${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1

# SLURM ends a script by SIGTERM when it preempts its job: this one first waits for the ranks to save.
trap : TERM
mmhydra_job() {
    srun --nodelist="$SLURMD_NODENAME" --overlap --nodes=1 --ntasks=1 --cpus-per-task=4 '--container-image=nvcr.io#nvidia/pytorch:25.01-py3' '--container-mounts=/outputs:/outputs,/data:/data,/scratch:/scratch:ro,/a b:/c' --cpu-bind=none --mpi=none '/opt/a b/python' -m mmhydra.job "$@"
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
timeout --kill-after=10 1320 srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --kill-on-bad-exit=0 --wait=0 --cpus-per-task=4 '--container-image=nvcr.io#nvidia/pytorch:25.01-py3' '--container-mounts=/outputs:/outputs,/data:/data,/scratch:/scratch:ro,/a b:/c' --cpu-bind=none --mpi=none \
    '/opt/a b/python' -m mmhydra.job preflight "$MMHYDRA_ATTEMPT" 120
case $? in
0) ;;
75) finish 75 75 ;;
*) finish preflight 1 ;;
esac

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /outputs/all/0123456789ab/slurm/%j_%t_log.out --error /outputs/all/0123456789ab/slurm/%j_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=4 '--container-image=nvcr.io#nvidia/pytorch:25.01-py3' '--container-mounts=/outputs:/outputs,/data:/data,/scratch:/scratch:ro,/a b:/c' --cpu-bind=none --mpi=none '/opt/a b/python' -u -m submitit.core._submit /outputs/all/0123456789ab/slurm


# teardown
code=$?
finish "$code" "$code"