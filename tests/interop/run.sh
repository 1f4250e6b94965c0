#!/usr/bin/env bash
# Third parties against Tallybook: installs what is missing (from npm, from PyPI and by cargo, in the versions that are pinned
# here), says what runs, and runs every cell of the matrix. Nothing is skipped: what cannot be installed fails.
#   tests/interop/run.sh            compares what ran with matrix.md
#   INTEROP_WRITE=1 tests/interop/run.sh   writes it
# Needs Rust, a C compiler, node 20 with npm, and python 3.11 with venv.
set -euo pipefail
cd "$(dirname "$0")"

for tool in node npm python3 cargo; do
  command -v "$tool" >/dev/null || { echo "tests/interop needs $tool" >&2; exit 1; }
done

began=$SECONDS
if ! cmp -s typescript/package-lock.json typescript/node_modules/.interop-lock; then
  (cd typescript && npm ci --silent --no-audit --no-fund --ignore-scripts)
  cp typescript/package-lock.json typescript/node_modules/.interop-lock
fi
# Our own plug-in for @x402/core, as it would be packed: beside the third parties, so that it finds theirs.
plugin=../../clients/typescript
if [ ! -d $plugin/dist ] || [ -n "$(find $plugin/src -newer $plugin/dist -print -quit)" ]; then
  (cd $plugin && npm ci --silent --no-audit --no-fund && npm run --silent build)
fi
rm -rf typescript/node_modules/@tallybook
mkdir -p typescript/node_modules/@tallybook/x402
cp -r $plugin/dist $plugin/package.json typescript/node_modules/@tallybook/x402/
if ! cmp -s python/requirements.txt python/.venv/.interop-lock; then
  rm -rf python/.venv
  python3 -m venv python/.venv
  python/.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r python/requirements.txt
  cp python/requirements.txt python/.venv/.interop-lock
fi
(cd ../../clients/x402 && cargo build --quiet --locked --examples --target-dir target)
# The server with priced tools that MCP clients start.
(cd ../.. && cargo build --workspace --quiet --example priced_tool)
echo "installed in $((SECONDS - began)) s"

echo "node $(node --version), $(python3 --version), $(cargo --version)"
(cd typescript && npm ls --depth=0 2>/dev/null | sed 1d)
python/.venv/bin/pip list --disable-pip-version-check 2>/dev/null | grep -E '^(x402|x402-conformance|fastapi|solana|solders) '
(cd ../../clients/x402 && cargo tree --quiet --locked --depth 1 --prefix none 2>/dev/null | grep '^x402-' | sort -u)

cd ../..
cargo test --workspace --test interop -- --nocapture
