#!/usr/bin/env bash
# Installs what the package is built and tested with, and runs everything: against a facilitator and a chain of its own, and in a
# browser. One command for CI and for people.
#
#   TALLYBOOK_BIN     the command line, built from this repository: target/debug/tallybook unless said otherwise
#   TALLYBOOK_TOKENS  the example `tokens` of the paywall: target/debug/examples/tokens unless said otherwise
#   CHROMIUM          a browser: /usr/bin/chromium unless said otherwise (Debian: apt-get install chromium)
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
export TALLYBOOK_BIN=${TALLYBOOK_BIN:-$root/target/debug/tallybook}
export TALLYBOOK_TOKENS=${TALLYBOOK_TOKENS:-$root/target/debug/examples/tokens}
export CHROMIUM=${CHROMIUM:-/usr/bin/chromium}

missing() { echo "test.sh: $1 is not there: $2" >&2; exit 1; }
[ -x "$TALLYBOOK_BIN" ] || missing "$TALLYBOOK_BIN" "cargo build --bin tallybook"
[ -x "$TALLYBOOK_TOKENS" ] || missing "$TALLYBOOK_TOKENS" "cargo build --package tallybook-paywall --example tokens"
[ -x "$CHROMIUM" ] || missing "$CHROMIUM" "apt-get install chromium"

npm ci --silent --no-fund --no-audit
echo "node $(node --version), $("$CHROMIUM" --version --no-sandbox 2>/dev/null)"
npm ls --depth=0 | tail -n +2
npm run --silent build
npm run --silent build:tests
node tests/size.mjs
"$TALLYBOOK_BIN" conform codec --cases 64 -- node conform.mjs

# The chain and the sample API take fixed ports. A network of one's own, where the system allows it, keeps them free.
run=(node --test --test-concurrency=1 --test-reporter=spec build/tests/unit/ build/tests/chain/)
if unshare --map-root-user --net ip link set lo up 2>/dev/null; then
  exec unshare --map-root-user --net sh -c 'ip link set lo up && exec "$@"' sh "${run[@]}"
fi
exec "${run[@]}"
