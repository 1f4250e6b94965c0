#!/usr/bin/env bash
# Searches for inputs that break a property: every target for so many seconds, one after another, from the committed corpus.
#   fuzz/run.sh SECONDS_PER_TARGET [TARGET...]
# Needs Rust and a C++ compiler, nothing else. What is found lies in fuzz/artifacts: put it into fuzz/corpus/TARGET, and the
# tests hold it for good. (Afterwards `RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none TARGET` works too, where cargo-fuzz is
# installed.)
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?usage: fuzz/run.sh SECONDS_PER_TARGET [TARGET...]}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cd fuzz_targets && ls -- *.rs | sed 's/\.rs$//')

# What cargo-fuzz sets for `--sanitizer none`. With --target, so that build scripts are built without it.
host=$(rustc --print host-tuple)
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
-Ccodegen-units=16 --cfg fuzzing"
began=$SECONDS
cp ../Cargo.lock Cargo.lock # cargo takes out what is not needed here, and adds the library of the fuzzer
cargo build --quiet --release --bins --target "$host"
echo "built in $((SECONDS - began)) s"

new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
[ ! -d /dev/shm ] || export TMPDIR=/dev/shm # files of a moment need no disk
for target in "${targets[@]}"; do
  mkdir -p "$new/$target" "artifacts/$target"
  log=$new/$target.log
  if ! "target/$host/release/$target" -max_total_time="$seconds" -max_len=4096 -print_final_stats=1 \
    -artifact_prefix="artifacts/$target/" "$new/$target" "corpus/$target" >"$log" 2>&1; then
    tail -40 "$log"
    echo "$target: a property does not hold; the input is in fuzz/artifacts/$target" >&2
    exit 1
  fi
  awk -v t="$target" '/number_of_executed_units/ { printf "%-14s %10d inputs\n", t, $2 }' "$log"
done
