# Read by the scripts here that install something. They define `say`, and `die`, which ends them.

# Runs a command as root, directly or by sudo.
as_root() {
    say "running: $*"
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        # Without a terminal a password cannot be typed: fail rather than wait.
        if [ -t 0 ]; then sudo "$@"; else sudo -n "$@"; fi
    else
        die "installing needs root, and sudo is not installed"
    fi
}
