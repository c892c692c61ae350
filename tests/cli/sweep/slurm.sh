#!/bin/sh
# The job array of docs/sweeps.md on a Slurm of one node, started here for the purpose: its shards, merged, are
# the whole sweep. Usage: slurm.sh TESSERA SWEEPS.md; exit code 77 where Slurm is not installed.
set -eu
tessera=$1 doc=$2
for program in munged slurmctld slurmd sbatch; do
  if ! PATH=$PATH:/usr/sbin command -v $program > /dev/null; then
    echo "SKIPPED: $program is not there; install slurm-wlm and munge to have the Slurm array tested" >&2
    exit 77
  fi
done
PATH=$PATH:/usr/sbin
here=$(mktemp -d)
chmod 755 "$here"
stop() {
  for daemon in slurmd slurmctld munged; do
    [ -f "$here/$daemon.pid" ] && kill "$(cat "$here/$daemon.pid")" 2> /dev/null || true
  done
  sleep 1
  rm -rf "$here"
}
trap stop EXIT
fail() {
  echo "FAILED: $1" >&2
  tail -n 20 "$here"/*.log >&2 || true
  exit 1
}

# No cgroups, no accounting, no other user: what a container allows.
port=$((20000 + $$ % 20000))
cat > "$here/slurm.conf" <<END
ClusterName=one
SlurmctldHost=localhost
AuthInfo=socket=$here/munge.socket
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.pid
SlurmctldLogFile=$here/slurmctld.log
SlurmdLogFile=$here/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
NodeName=localhost NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=localhost Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF="$here/slurm.conf"
mkdir "$here/state" "$here/spool" "$here/job"
head -c 1024 /dev/urandom > "$here/munge.key"
chmod 600 "$here/munge.key"
munged --force --key-file="$here/munge.key" --socket="$here/munge.socket" --pid-file="$here/munged.pid" \
  --log-file="$here/munged.log" --seed-file="$here/munge.seed" || fail "munged does not start"
slurmctld || fail "slurmctld does not start"
slurmd -N localhost || fail "slurmd does not start"
tries=0
until sinfo -h -o %t 2> /dev/null | grep -q idle; do
  tries=$((tries + 1))
  [ $tries -lt 60 ] || fail "the node does not become idle"
  sleep 0.5
done

cd "$here/job"
ln -s "$tessera" tessera
cat > my.yaml <<END
experiment: tiny_cascade
axes:
  workload.prefill_tokens: {range: [32, 256], step: 16}
  fabric: [nvlink4_nvswitch, infiniband_ndr]
objectives: {latency_us: min}
END
# The script as the documentation has it, on fewer tasks.
awk '/^```/ {inside = 0} inside {print} /^```sh/ {inside = 1}' "$doc" > sweep.sbatch
grep -q SBATCH sweep.sbatch || fail "$doc has no sbatch script"
timeout 120 sbatch --wait --array=0-3 --cpus-per-task=1 sweep.sbatch || fail "the array failed: $(cat slurm-*.out)"
[ "$(ls part*.db | wc -l)" = 4 ] || fail "four shards were expected: $(ls)"
./tessera merge part*.db --out results.db
./tessera sweep my.yaml --out whole.db -j1
./tessera export results.db --csv merged.csv
./tessera export whole.db --csv whole.csv
cmp merged.csv whole.csv || fail "the merged shards are not the whole sweep"
echo "passed: $(($(wc -l < merged.csv) - 1)) points by 4 tasks of a job array"
