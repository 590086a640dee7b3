#!/bin/sh
# Puts back what backup.sh saved. Every form checks SHA256SUMS first.
#   restore.sh verify  BACKUP
#   restore.sh weights BACKUP FOLDER    what is in FOLDER moves to FOLDER/.replaced-<UTC time>
#   restore.sh keys    BACKUP FILE      a running service reads the new file at once
#   restore.sh redis   BACKUP FOLDER    Redis' data folder, with Redis stopped
set -eu
umask 077
usage() {
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
[ $# -ge 2 ] || usage
what=$1
backup=$2
target=${3:-}
[ -f "$backup/SHA256SUMS" ] || { echo "$backup holds no backup: no SHA256SUMS" >&2; exit 1; }
(cd "$backup" && sha256sum -c SHA256SUMS) >&2
[ "$what" = verify ] && exit 0
[ $# -eq 3 ] || usage
now=$(date -u +%Y%m%dT%H%M%SZ)

need() {
    [ -f "$backup/$1" ] || { echo "$backup has no $1" >&2; exit 1; }
}

# Moves what a folder holds aside, then what another holds in; both stay on one file system.
swap_in() {
    mkdir "$2/.replaced-$now"
    for entry in "$2"/* "$2"/.[!.]*; do
        case ${entry##*/} in
        .replaced-* | .restoring-*) ;;
        *) [ ! -e "$entry" ] || mv "$entry" "$2/.replaced-$now/" ;;
        esac
    done
    for entry in "$1"/* "$1"/.[!.]*; do
        [ ! -e "$entry" ] || mv "$entry" "$2/"
    done
    rmdir "$2/.replaced-$now" 2>/dev/null || echo "what was there before: $2/.replaced-$now" >&2
}

# Root restores for the user whose folder it is.
own() {
    [ "$(id -u)" -ne 0 ] || chown -R "$(stat -c %u:%g "$1")" "$2"
}

case $what in
weights)
    need weights.tar.gz
    mkdir -p "$target"
    work=$target/.restoring-$now
    mkdir "$work"
    trap 'rm -rf "$work"' EXIT
    tar -C "$work" -xzf "$backup/weights.tar.gz"
    own "$target" "$work"
    # The service reads them as another user.
    chmod -R a+rX "$work"
    swap_in "$work" "$target"
    ;;
keys)
    need api_keys.json
    cat "$backup/api_keys.json" >"$target.$now"
    own "$(dirname "$target")" "$target.$now"
    mv "$target.$now" "$target"
    ;;
redis)
    need redis.rdb
    mkdir -p "$target"
    work=$target/.restoring-$now
    mkdir "$work"
    server=
    # An append-only Redis does not read a dump: a Redis without clients reads it and writes its log anew.
    trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
    cat "$backup/redis.rdb" >"$work/dump.rdb"
    # A socket's path may be 107 bytes long, and that of a folder is unknown: it lies in $TMPDIR.
    sockets=$(mktemp -d)
    redis-server --port 0 --unixsocket "$sockets/s" --dir "$work" --dbfilename dump.rdb \
        --appendonly no --save '' >&2 &
    server=$!
    # That server asks for no password.
    unset REDISCLI_AUTH
    ask() { redis-cli -s "$sockets/s" "$@"; }
    until [ "$(ask ping 2>/dev/null)" = PONG ]; do
        kill -0 "$server" || { echo "Redis does not read $backup/redis.rdb" >&2; exit 1; }
        sleep 0.2
    done
    keys=$(ask dbsize)
    ask config set appendonly yes >&2
    until ask info persistence | tr -d '\r' | grep -q '^aof_rewrite_in_progress:0$' &&
        ask info persistence | tr -d '\r' | grep -q '^aof_rewrite_scheduled:0$'; do
        sleep 0.2
    done
    ask info persistence | tr -d '\r' | grep -q '^aof_last_bgrewrite_status:ok$' ||
        { echo "Redis could not write its log into $target" >&2; exit 1; }
    ask shutdown nosave
    wait "$server" || true
    server=
    rm -rf "$sockets"
    own "$target" "$work"
    swap_in "$work" "$target"
    echo "$keys keys are in $target" >&2
    ;;
*) usage ;;
esac
