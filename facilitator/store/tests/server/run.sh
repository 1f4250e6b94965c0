# A PostgreSQL server in the folder $1, of the binaries in $2, on the port $3; in the clear and with TLS. Does what is said on
# standard input, a word a line, and says "done" after each; when nobody can say anything any more, it ends and the folder goes.
set -u
trap '' INT TERM
folder=$1 bin=$2 port=$3
cd "$folder" || exit 1

certificates() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=authority -keyout authority.key -out authority.pem &&
    openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr &&
    printf 'subjectAltName=DNS:localhost\n' > names &&
    openssl x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 30 -extfile names -out server.pem &&
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=another -keyout another.key -out another.pem &&
    chmod 600 server.key
}

start() {
    "$bin/postgres" -D data -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$folder" \
        -c ssl=on -c ssl_cert_file="$folder/server.pem" -c ssl_key_file="$folder/server.key" \
        -c max_connections=200 -c log_statement=none -c password_encryption=scram-sha-256 >> log 2>&1 &
    pid=$!
}

until_ready() {
    tries=0
    until "$bin/pg_isready" -q -h "$folder" -p "$port"; do
        # One that was killed may leave its memory to its children for a moment, which keeps the next one out.
        kill -0 "$pid" 2>/dev/null || start
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || return 1
        sleep 0.1
    done
}

# Those that serve a connection end when they see that the first one has.
killed() {
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null
}

pid=
while read -r word; do
    case $word in
        make) certificates >> log 2>&1 && printf '%s' "$PASSWORD" > password &&
            "$bin/initdb" -D data -U tallybook -E UTF8 --locale=C --auth-local=trust --auth-host=scram-sha-256 \
                --pwfile=password --no-sync >> log 2>&1 || { echo failed; continue; } ;;
        start) start; until_ready || { echo failed; continue; } ;;
        kill) killed ;;
        stop) kill -INT "$pid"; wait "$pid" ;;
    esac
    echo done
done
[ -z "$pid" ] || { kill -QUIT "$pid"; wait "$pid"; } 2>/dev/null
cd / && rm -rf "$folder"
