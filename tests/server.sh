# Read by the scripts that try a server of this checkout with somebody else's tools; not run by itself. Whoever
# reads it has set `me` (the script's name), `home` (a folder under target/ for all that it makes) and stands at
# the top of the checkout.
# shellcheck shell=bash

data=
server=

say() { printf '%s: %s\n' "$me" "$*" >&2; }

die() {
    say "$*"
    exit 1
}

clean_up() {
    if [[ -n $server ]]; then
        kill "$server" 2>/dev/null || :
        wait "$server" 2>/dev/null || :
    fi
    if [[ -n $data ]]; then rm -rf "$data"; fi
}
trap clean_up EXIT

# installed LOG WHAT COMMAND..: runs an installation quietly, and says what is the matter where it fails.
installed() {
    local log=$home/$1.log what=$2
    shift 2
    if ! "$@" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "$what could not be installed (is the package registry within reach?); the whole log is in $log"
    fi
}

# python_environment: makes $home/python, where it is not there.
python_environment() {
    [[ -x $home/python/bin/python ]] ||
        installed venv "a Python environment (Debian: apt-get install python3-venv)" python3 -m venv "$home/python"
}

# start_server [NAME=VALUE..]: builds and starts one with an embedded PostgreSQL and a data folder of its own, and
# exports its URL and ROOT_TOKEN.
start_server() {
    say "starting a server"
    cargo build --quiet
    data=$(mktemp -d "$home/data.XXXXXX")
    # The embedded server drops to an unprivileged user where we are root, who must be able to get there.
    chmod 755 "$data"
    ROOT_TOKEN=$(python3 -c 'import uuid; print(uuid.uuid4())')
    export ROOT_TOKEN
    # Before it is looked into: what the last run left there names another port.
    : >"$home/server.out"
    env -u DATABASE_URL -u ROWHOUSE_DATABASE__URL ROWHOUSE_LISTEN=127.0.0.1:0 ROWHOUSE_DATA_DIR="$data" \
        ROWHOUSE_ROOT_TOKEN="$ROOT_TOKEN" "$@" \
        target/debug/rowhouse serve >"$home/server.out" 2>"$home/server.log" &
    server=$!
    URL=
    for _ in {1..600}; do
        URL=$(sed -n 's/^listening on \(http:.*\)/\1/p' "$home/server.out")
        if [[ -n $URL ]]; then break; fi
        kill -0 "$server" 2>/dev/null || { cat "$home/server.log" >&2; die "the server did not start"; }
        sleep 0.1
    done
    [[ -n $URL ]] || die "the server does not say where it listens; its log is in $home/server.log"
    export URL
}

# verdict [FAILED..]: ends with what failed. What works and a server that complains is not what we want either.
verdict() {
    local failed=("$@")
    if grep -E ' (ERROR|WARN) ' "$home/server.log" >&2; then failed+=("the server's log"); fi
    if ((${#failed[@]} > 0)); then
        die "FAILED: $(printf '%s; ' "${failed[@]}")the server's log is in $home/server.log"
    fi
    say "ok"
}
