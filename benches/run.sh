#!/usr/bin/env bash
# Measures what the README says, and writes benches/report: about ten minutes on two cores, and quiet ones are needed.
#   benches/run.sh            measures, and writes the report that is committed
#   benches/run.sh --quick    some seconds of each, into a folder that is thrown away: to see that all of it works
set -euo pipefail
cd "$(dirname "$0")/.."
report=$PWD/benches/report quick=()
if [ "${1:-}" = --quick ]; then
  report=$(mktemp -d) quick=(-- --quick)
  trap 'rm -rf "$report"' EXIT
fi
mkdir -p "$report"
export TALLYBOOK_REPORT=$report
cargo bench --quiet --profile dev --no-run --benches # built before anything is measured
for bench in settlement planner request; do
  cargo bench --quiet --profile dev --bench "$bench" "${quick[@]}"
done
cargo run --quiet --bin bench-report -- "$report"
