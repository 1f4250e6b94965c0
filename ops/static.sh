#!/usr/bin/env bash
# Makes the facilitator and the command line (without its local chain) as static files that run on any Linux of this processor, and
# tries them where nothing else is:
#   ops/static.sh OUT [FOR CARGO...]        OUT/tallybook-facilitator, OUT/tallybook, OUT/SHA256SUMS
# Memory is mimalloc's: musl's own allocator has one lock for all threads, and takes 5 to 25 times as long for what requests do.
# Needs musl-gcc (apt-get install musl-tools), for the parts in C, and python3 and openssl, which it is tried with. PROFILE=dev
# makes it quicker, and larger and slower; CARGO_TARGET_DIR says where it is built.
set -euo pipefail
out=$(mkdir -p "${1:?where to put the files}" && cd "$1" && pwd)
shift
cd "$(dirname "$0")/.."
machine=$(uname -m)
target=$machine-unknown-linux-musl
profile=${PROFILE:-release}
command -v musl-gcc >/dev/null || { echo "musl-gcc is missing: apt-get install musl-tools" >&2; exit 1; }
rustup target list --installed 2>/dev/null | grep -qx "$target" || rustup target add "$target"

cargo build --locked --profile "$profile" --target "$target" -p tallybook-facilitator -p tallybook-cli --no-default-features --bins "$@"
built=${CARGO_TARGET_DIR:-target}/$target/${profile/#dev/debug}
for name in tallybook-facilitator tallybook; do
  install -m 755 "$built/$name" "$out/$name"
  strip "$out/$name"
  file -b "$out/$name" 2>/dev/null || true
  # An interpreter is what loads shared libraries.
  if readelf --program-headers "$out/$name" | grep -q INTERP; then echo "$name is not static" >&2; exit 1; fi
done
(cd "$out" && sha256sum tallybook-facilitator tallybook | tee SHA256SUMS && du -h tallybook-facilitator tallybook)

# A root with the binary, a configuration and a name, and nothing else: no C library, no certificates, no shell.
root=$(mktemp -d)
servers=()
cleanup() { [ ${#servers[@]} -eq 0 ] || kill "${servers[@]}" 2>/dev/null || true; rm -rf "$root"; }
trap cleanup EXIT
mkdir -p "$root/etc"
cp "$out/tallybook-facilitator" "$out/tallybook" "$root"
echo "127.0.0.1 facilitator.test" >"$root/etc/hosts"
sed 's/^sponsor = .*/sponsor = "env:SPONSOR"/' facilitator/server/facilitator.example.toml >"$root/etc/facilitator.toml"
within() {
  if [ "$(id -u)" -eq 0 ]; then chroot "$root" "$@"; else unshare --user --map-root-user chroot "$root" "$@"; fi
}
within /tallybook-facilitator --version
within /tallybook --version

# A facilitator that is well, in the clear, and one whose certificate nobody vouches for.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=facilitator.test \
  -addext subjectAltName=DNS:facilitator.test -addext basicConstraints=critical,CA:FALSE -keyout "$root/key.pem" -out "$root/cert.pem" 2>/dev/null
serve() { # serve FILE [TLS]: writes the port that it has into FILE
  python3 - "$@" "$root" <<'PYTHON' &
import http.server, os, ssl, sys
class Well(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/livez" else 404)
        self.end_headers()
        self.wfile.write(b"alive\n")
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Well)
if "tls" in sys.argv:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[-1] + "/cert.pem", sys.argv[-1] + "/key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
with open(sys.argv[1] + ".part", "w") as file: file.write(str(server.server_port))
os.rename(sys.argv[1] + ".part", sys.argv[1])
server.serve_forever()
PYTHON
  servers+=($!)
  until [ -s "$1" ]; do sleep 0.1; done
}
serve "$root/clear"
serve "$root/secret" tls
within /tallybook-facilitator health "http://facilitator.test:$(cat "$root/clear")"
echo "it finds names"
# It knows public authorities by itself, and this is none: with no check it would be content.
refused=$(within /tallybook-facilitator health "https://facilitator.test:$(cat "$root/secret")" 2>&1) && { echo "it trusts anybody" >&2; exit 1; }
grep -q certificate <<<"$refused" || { echo "it does not come to the certificate: $refused" >&2; exit 1; }
echo "it refuses a stranger's certificate: $refused"
key=$(python3 -c 'print(list(range(32)) + [3,161,7,191,243,206,16,190,29,112,221,24,231,75,192,153,103,228,214,48,155,165,13,95,29,220,134,100,18,85,49,184])')
SPONSOR=$key within /tallybook-facilitator --config /etc/facilitator.toml --check
echo "it reads a configuration"
