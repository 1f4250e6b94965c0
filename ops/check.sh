#!/usr/bin/env bash
# Checks what is for monitors: rules and their tests by promtool, the text of a running facilitator's /metrics if its address is
# given (ops/check.sh http://127.0.0.1:4020), and that dashboard and alerts name no metric that a facilitator does not have.
set -euo pipefail
cd "$(dirname "$0")"
command -v promtool >/dev/null || { echo "promtool is missing: apt-get install prometheus" >&2; exit 1; }
promtool check config --lint=all prometheus.yml
promtool check rules alerts.yml
promtool test rules alerts.test.yml
python3 -m json.tool dashboard.json >/dev/null
known=$(sed -n '/^fn describe/,$p' ../facilitator/server/src/metrics.rs | grep -oE '"tallybook_[a-z_]+"' | tr -d '"')
for named in $(grep -ohE 'tallybook_[a-z_]+' alerts.yml dashboard.json | sort -u); do
  grep -qxE "${named%_bucket}|${named%_count}|${named%_sum}|$named" <<<"$known" || { echo "$named: no such metric" >&2; exit 1; }
done
if [ $# -gt 0 ]; then
  curl --silent --show-error --fail "$1/metrics" | promtool check metrics
fi
echo "what is for monitors is sound"
