#!/usr/bin/env bash
# The operator's page in a real browser, over a whole Tallybook on loopback: no error in its console, all of it by keyboard, live,
# readable in light and dark, and without what axe finds wrong. Writes screenshots to the folder that it is given, if any.
#
#   TALLYBOOK_BIN  the command line, built from this repository: target/debug/tallybook unless said otherwise
#   CHROMIUM       a browser: /usr/bin/chromium unless said otherwise (Debian: apt-get install chromium)
set -euo pipefail
SCREENSHOTS=${1:+$(realpath "$1")}
cd "$(dirname "$0")"
root=$(cd ../../../.. && pwd)
export SCREENSHOTS TALLYBOOK_BIN=${TALLYBOOK_BIN:-$root/target/debug/tallybook} CHROMIUM=${CHROMIUM:-/usr/bin/chromium}

missing() { echo "test.sh: $1 is not there: $2" >&2; exit 1; }
[ -x "$TALLYBOOK_BIN" ] || missing "$TALLYBOOK_BIN" "cargo build --bin tallybook"
[ -x "$CHROMIUM" ] || missing "$CHROMIUM" "apt-get install chromium"

npm ci --silent
# The chain and the sample API take fixed ports. A network of one's own, where the system allows it, keeps them free.
run=(node --test --test-reporter=spec page.test.mjs)
if unshare --map-root-user --net ip link set lo up 2>/dev/null; then
  exec unshare --map-root-user --net sh -c 'ip link set lo up && exec "$@"' sh "${run[@]}"
fi
exec "${run[@]}"
