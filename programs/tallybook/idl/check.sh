#!/usr/bin/env bash
# Generates the program's IDL on the host and compares it with the committed one; with --write, updates that.
#
#   programs/tallybook/idl/check.sh [--write]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."

# A target folder of its own, since other features and flags would rebuild everything else; nothing there has to be fast.
export CARGO_TARGET_DIR=${IDL_TARGET_DIR:-${CARGO_TARGET_DIR:-$here/../../../target}/idl}
export RUSTFLAGS="-A warnings" # as Anchor's builder sets it for its own run of cargo
plain=(--locked --config 'profile.dev.package."*".opt-level=0' --config profile.dev.opt-level=0)

new=$(mktemp)
trap 'rm -f "$new"' EXIT
cargo build --quiet "${plain[@]}" --features idl-build --example print-idl
# Not by `cargo run`: under rustup's cargo, Anchor's builder would update the toolchain of this machine.
env -u RUSTUP_TOOLCHAIN "$CARGO_TARGET_DIR/debug/examples/print-idl" "${plain[@]}" --lib >"$new"

if [ "${1:-}" = --write ]; then
  cp "$new" "$here/tallybook.json"
elif ! diff -u "$here/tallybook.json" "$new"; then
  echo "the IDL is not the program's: run programs/tallybook/idl/check.sh --write and commit it" >&2
  exit 1
fi
