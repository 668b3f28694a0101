#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --array=0,2-3
#SBATCH --chdir='/outputs/sweeps/it'"'"'s a study/arrays/0001'
#SBATCH --comment='it'"'"'s "quoted" $HOME `date` \ ü世 * mmhydra array=study-0001-t0k3n'
#SBATCH --constraint='h100&ib'
#SBATCH --cpus-per-task=4
#SBATCH --dependency=afterok:1234:1235,singleton,aftercorr:77
#SBATCH --error='/outputs/sweeps/it'"'"'s a study/arrays/0001/%A_%a_0_log.err'
#SBATCH --exclude='gpu[01-03],gpu9'
#SBATCH --exclusive
#SBATCH --gpus-per-node=4
#SBATCH --hold
#SBATCH --job-name=study-0001-t0k3n
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mail-type=END
#SBATCH --mem=102912M
#SBATCH --nice=100
#SBATCH --no-requeue
#SBATCH --nodelist=gpu07
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output='/outputs/sweeps/it'"'"'s a study/arrays/0001/%A_%a_0_log.out'
#SBATCH --partition=main
#SBATCH --qos=high
#SBATCH --reservation=maint
#SBATCH --signal=USR2@60
#SBATCH --time=30

# setup
# Array study-0001-t0k3n: each task is a run; its config, code and data are frozen, nothing else is read
MMHYDRA_JOB=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
MMHYDRA_FOLDER='/outputs/sweeps/it'"'"'s a study/arrays/0001'
tasks='/outputs/sweeps/it'"'"'s a study/arrays/0001/tasks.tsv'
IFS=$'\t' read -r _ MMHYDRA_SUBMITTED_ATTEMPT MMHYDRA_CODE MMHYDRA_COMMENT < <(
    grep --text --max-count=1 "^$SLURM_ARRAY_TASK_ID"$'\t' "$tasks"
) || { echo "error: $tasks has no task $SLURM_ARRAY_TASK_ID" >&2; exit 2; }
cd "${MMHYDRA_SUBMITTED_ATTEMPT%/attempts/*}" || exit
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
[ -n "$MMHYDRA_ATTEMPT" ] || exit 0 # another array has these runs
scontrol update JobId="$MMHYDRA_JOB" Comment="$MMHYDRA_COMMENT" ||
    echo "note: SLURM does not take the comment of this task: $MMHYDRA_COMMENT" >&2

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
srun --unbuffered --output '/outputs/sweeps/it'"'"'s a study/arrays/0001/%A_%a_%t_log.out' --error '/outputs/sweeps/it'"'"'s a study/arrays/0001/%A_%a_%t_log.err' --kill-on-bad-exit=1 --cpus-per-task=4 '--container-image=nvcr.io#nvidia/pytorch:25.01-py3' '--container-mounts=/outputs:/outputs,/data:/data,/scratch:/scratch:ro,/a b:/c' --cpu-bind=none --mpi=none '/opt/a b/python' -u -m submitit.core._submit '/outputs/sweeps/it'"'"'s a study/arrays/0001'


# teardown
code=$?
finish "$code" "$code"