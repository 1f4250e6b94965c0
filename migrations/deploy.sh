#!/usr/bin/env bash
# Deploys the program, or upgrades it, or finds that nothing is to be done; with --mint it makes a payee's book and first
# page too, unless they are there. Run it as often as you like: it does only what is not done yet.
#
#   migrations/deploy.sh                                                       a local chain (tallybook dev)
#   migrations/deploy.sh --rpc URL --keypair KEY.json --mint TOKEN --payee PAYEE.json --operator ADDRESS
#
# What `anchor build` left in target/deploy is deployed; without it the released program, which is for local chains. For
# all options: migrations/deploy.sh --help. TALLYBOOK names a built `tallybook`, to be run instead of building one.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
built=${CARGO_TARGET_DIR:-$root/target}/deploy

build=()
if [ -f "$built/tallybook.so" ]; then
  build=(--artifact "$built/tallybook.so" --program-keypair "$built/tallybook-keypair.json")
fi
if [ -n "${TALLYBOOK:-}" ]; then
  exec "$TALLYBOOK" deploy "${build[@]}" "$@"
fi
# Without the local chain and the demo, which take most of the time to build.
exec cargo run --quiet --locked --manifest-path "$root/Cargo.toml" -p tallybook-cli --no-default-features \
  --bin tallybook -- deploy "${build[@]}" "$@"
