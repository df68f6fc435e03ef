# Sourced by the scripts that test a server of this checkout with other projects' tools; not run by itself. The
# script that sources it sets `me` (its name) and `home` (a folder under target/ for everything it creates), and
# has changed to the top of the checkout.
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

# run_installer LOG WHAT COMMAND..: runs an installation quietly; if it fails, prints the end of its log and exits.
run_installer() {
    local log=$home/$1.log what=$2
    shift 2
    if ! "$@" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "$what could not be installed (is the package registry reachable?); the whole log is in $log"
    fi
}

# python_environment: creates $home/python if it does not exist.
python_environment() {
    [[ -x $home/python/bin/python ]] ||
        run_installer venv "a Python environment (Debian: apt-get install python3-venv)" python3 -m venv "$home/python"
}

# start_server [NAME=VALUE..]: builds and starts a server with an embedded PostgreSQL and a temporary data folder,
# and exports its URL and ROOT_TOKEN. FEATURES names cargo features beside the default ones.
start_server() {
    say "starting a server"
    cargo build --quiet ${FEATURES:+--features "$FEATURES"}
    data=$(mktemp -d "$home/data.XXXXXX")
    # Started by root, the embedded server runs as an unprivileged user, which must be able to enter the folder.
    chmod 755 "$data"
    ROOT_TOKEN=$(python3 -c 'import uuid; print(uuid.uuid4())')
    export ROOT_TOKEN
    # Emptied before it is read, because the output of the last run names another port.
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
    [[ -n $URL ]] || die "the server did not print its address; its log is in $home/server.log"
    export URL
}

# finish [FAILED..]: exits with an error if a step failed or the server logged a warning or an error.
finish() {
    local failed=("$@")
    if grep -E ' (ERROR|WARN) ' "$home/server.log" >&2; then failed+=("the server's log"); fi
    if ((${#failed[@]} > 0)); then
        die "FAILED: $(printf '%s; ' "${failed[@]}")the server's log is in $home/server.log"
    fi
    say "ok"
}
