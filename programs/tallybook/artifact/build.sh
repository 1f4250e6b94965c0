#!/usr/bin/env bash
# Builds the program and puts it here, with the hash of the sources that made it.
#
#   programs/tallybook/artifact/build.sh
#
# Takes the first of these that is there:
#   SBPF_TOOLCHAIN=/some/dir   an SBPF toolchain with bin/cargo-sbpf in it
#   anchor                     the Anchor CLI (anchor build)
#   cargo-build-sbf            Solana's own build command
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$(dirname "$here")
root=$(cd "$program/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
cd "$program"

if [ -n "${SBPF_TOOLCHAIN:-}" ]; then
  # A target folder of its own: other flags, another standard library.
  export CARGO_TARGET_DIR=${SBPF_TARGET_DIR:-$target/sbpf}
  "$SBPF_TOOLCHAIN/bin/cargo-sbpf" --locked
  built=$(find "$CARGO_TARGET_DIR" -path '*/release/*' -maxdepth 3 -name '*tallybook.so' | head -1)
  unset CARGO_TARGET_DIR
elif command -v anchor >/dev/null; then
  (cd "$root" && anchor build --program-name tallybook --no-idl)
  built=$target/deploy/tallybook.so
elif command -v cargo-build-sbf >/dev/null; then
  cargo build-sbf
  built=$target/deploy/tallybook.so
else
  echo "no way to build for the Solana virtual machine: install the Anchor CLI, or set SBPF_TOOLCHAIN" >&2
  exit 1
fi

[ -s "$built" ] || { echo "nothing was built" >&2; exit 1; }
cp "$built" "$here/tallybook.so"
# Built with the workspace's features, so that nothing is built twice.
(cd "$root" && CARGO_TARGET_DIR=$target cargo build --quiet --locked --workspace --bin artifact-hash)
"$target/debug/artifact-hash" >"$here/SOURCE_HASH"
echo "$(wc -c <"$here/tallybook.so") bytes, of sources $(cat "$here/SOURCE_HASH")"
