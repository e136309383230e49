#!/usr/bin/env bash
# Submit several cases side by side: check each script, then hand all of them to `hpc submit-all`.
set -euo pipefail

usage() {
    cat <<'END'
Usage: slurm/launch_parallel.sh [OPTIONS] [CASE]...

Submit several cases side by side; without a CASE: full_market reduced.
Each case's batch script is checked with `bash -n` before anything is submitted.

  --preset NAME    table (default), small, demo
  --data DIR       where the bars are
  --set KEY=VALUE  a setting for all of the cases; may be repeated
  --cluster NAME   slurm/clusters/NAME.yaml
  --fresh          new runs, even where such runs exist
  --local          processes of this machine, even where there is a Slurm
  --wait           follow all runs to their end
  --yes            submit without asking
  --dry-run        check the scripts and submit nothing
  -h, --help       this text
END
}

mistake() {
    echo "error: $1" >&2
    exit 2
}

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
hpc=$root/.venv/bin/hpc
[[ -x $hpc ]] || hpc=$(command -v hpc) || mistake "there is no environment yet
    fix: make .venv/.ready"

cases=() planning=() overrides=() submitting=() dry_run=
while (($#)); do
    case $1 in
    -h | --help) usage && exit ;;
    --preset | --data | --cluster | --set)
        (($# > 1)) || mistake "$1 needs a value"
        if [[ $1 == --set ]]; then overrides+=("$2"); else planning+=("$1" "$2"); fi
        shift
        ;;
    --fresh) planning+=("$1") ;;
    --local | --wait | --yes) submitting+=("$1") ;;
    --dry-run) dry_run=1 ;;
    -*) mistake "there is no option $1
    fix: slurm/launch_parallel.sh --help" ;;
    *) cases+=("$1") ;;
    esac
    shift
done
((${#cases[@]})) || cases=(full_market reduced)

export HPC_ROOT=$root
for name in "${cases[@]}"; do
    script=$("$hpc" submit "$name" "${overrides[@]}" "${planning[@]}" --dry-run)
    bash -n <<<"$script" || mistake "the script of $name is broken: cases/$name/job.sbatch.j2"
    echo "$name: $(grep -c '^#SBATCH' <<<"$script") options, the script is sound" >&2
done
[[ -z $dry_run ]] || exit 0

for override in "${overrides[@]}"; do submitting+=(--set "$override"); done
exec "$hpc" submit-all "${cases[@]}" "${planning[@]}" "${submitting[@]}"
