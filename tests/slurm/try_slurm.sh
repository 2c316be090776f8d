#!/usr/bin/env bash
# Processes the tiny experiment on a real SLURM cluster of one node: this machine. Not part of `make test`: it needs root,
# and Debian's packages slurmctld, slurmd, slurm-client and munge, which it installs where they are missing.
#
#   sudo tests/slurm/try_slurm.sh [python]        python: the interpreter that has trxas, `python` unless given
#
# Everything lives in a temporary folder and is stopped and removed at the end (KEEP=1 leaves the folder). It ends with 0 if the
# product from SLURM has the hash of the product from threads, after one of the two jobs was cancelled under way.
set -euo pipefail

here=$(cd "$(dirname "$0")/../.." && pwd)
python=${1:-python}
export PYTHONPATH=$here OMP_NUM_THREADS=1
for package in slurmctld slurmd slurm-client munge; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=" $package"
done
[ -z "${missing:-}" ] || DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing

work=$(mktemp -d); chmod 755 "$work"
stop() {
    scancel --user root 2>/dev/null || true
    for name in slurmd slurmctld munged; do
        [ -f "$work/$name.pid" ] && kill "$(cat "$work/$name.pid")" 2>/dev/null || true
    done
    sleep 1
    [ -n "${KEEP:-}" ] && echo "kept: $work" || rm -rf "$work"
}
trap stop EXIT

# no systemd and no cgroups are needed: processes are followed by their group, nothing confines them
cpus=$(nproc); memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo); node=$(hostname -s)
cat >"$work/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
CryptoType=crypto/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SchedulerParameters=sched_min_interval=1
SlurmctldPort=16817
SlurmdPort=16818
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
MpiDefault=none
KillWait=5
NodeName=$node NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=test Nodes=$node Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
CONF
mkdir -p "$work/state" "$work/spool"
export SLURM_CONF=$work/slurm.conf

dd if=/dev/urandom of="$work/munge.key" bs=128 count=1 status=none; chmod 600 "$work/munge.key"
munged --force --key-file="$work/munge.key" --socket="$work/munge.socket" --pid-file="$work/munged.pid" \
    --log-file="$work/munged.log" --seed-file="$work/munged.seed"
slurmctld
slurmd
for _ in $(seq 60); do sinfo -h -o %T 2>/dev/null | grep -q idle && break; sleep 1; done
sinfo
srun -n1 hostname

"$python" -m flows.cli simulate tiny --out "$work/tiny"
config=$work/tiny/config.yaml
cat >"$work/process.py" <<'PY'
import subprocess
import sys

from pipeline.job import load_job
from pipeline.workflow import process


def progress(label, done, total):
    """Cancel a job of ours when a run is done in part: what it had in hand goes to the other, and a new one replaces it."""
    if label == "run 4" and 0 < done < total and not cancelled and len(running()) == 2:
        cancelled.append(running()[0])
        print("cancel job", cancelled[0], flush=True)
        subprocess.run(["scancel", "--signal=KILL", "--full", cancelled[0]], check=True)


def running():
    return subprocess.run(["squeue", "-h", "-t", "R", "-o", "%i"], capture_output=True, text=True).stdout.split()


if __name__ == "__main__":
    cancelled = []
    print(process(load_job(sys.argv[1], sys.argv[2], sys.argv[3:]), progress=progress))
    print("cancelled:", cancelled)
PY
slurm="{queue: test, cores: 1, memory: 1GiB, walltime: '00:30:00', interface: lo, python: $(command -v "$python")}"
small="compute.memory=11MiB"
# a queue that does not exist is one line that names the key
"$python" -m flows.cli process "$config" --out "$work/wrong" --set compute.cluster=slurm compute.slurm="{queue: nowhere}" && exit 1
# so are jobs that end at once, after a minute
"$python" -m flows.cli process "$config" --out "$work/wrong" \
    --set compute.cluster=slurm compute.slurm="{cores: 1, memory: 1GiB, python: /bin/false}" && exit 1
"$python" "$work/process.py" "$config" "$work/slurm" "$small" compute.cluster=slurm compute.workers=2 "compute.slurm=$slurm"
squeue
"$python" "$work/process.py" "$config" "$work/threads" "$small"
ls "$work/slurm/logs"
hashes=$(grep -h -o '"product_hash": "[0-9a-f]*"' "$work"/{slurm,threads}/products/tiny/latest.json | sort -u)
echo "$hashes"
[ "$(echo "$hashes" | wc -l)" = 1 ] && echo "the same product from SLURM and from threads"
