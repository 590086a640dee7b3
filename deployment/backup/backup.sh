#!/bin/sh
# Writes BACKUP_ROOT/<UTC time>/ with weights.tar.gz, api_keys.json, redis.rdb and SHA256SUMS, and keeps
# the newest BACKUP_KEEP. What is not set is left out; what is set and cannot be saved fails the backup.
#   BACKUP_ROOT   folder of backups                      BACKUP_KEEP   how many stay (14)
#   WEIGHTS_DIR   folder of models                       KEYS_FILE     the file of API keys
#   REDIS_HOST    Redis, with REDIS_PORT (6379); its password in REDISCLI_AUTH
# POSIX shell, tar, gzip, sha256sum and redis-cli: the image of Redis has all of them.
set -eu
umask 077
: "${BACKUP_ROOT:?BACKUP_ROOT is not set}"
keep=${BACKUP_KEEP:-14}
case $keep in
'' | *[!0-9]* | 0) echo "BACKUP_KEEP=$keep is not a number above 0" >&2; exit 2 ;;
esac
mkdir -p "$BACKUP_ROOT"
name=$(date -u +%Y%m%dT%H%M%SZ)
part=$BACKUP_ROOT/.$name.part
[ ! -e "$BACKUP_ROOT/$name" ] || { echo "$BACKUP_ROOT/$name is there already" >&2; exit 1; }
mkdir "$part"
# A backup has its name only once it is whole.
trap 'rm -rf "$part"' EXIT
trap 'exit 1' HUP INT TERM

if [ -n "${WEIGHTS_DIR:-}" ]; then
    tar -C "$WEIGHTS_DIR" --exclude='./.replaced-*' -czf "$part/weights.tar.gz" .
fi
if [ -n "${KEYS_FILE:-}" ]; then
    cat "$KEYS_FILE" >"$part/api_keys.json"
fi
if [ -n "${REDIS_HOST:-}" ]; then
    redis-cli -h "$REDIS_HOST" -p "${REDIS_PORT:-6379}" --rdb "$part/redis.rdb" >&2
    redis-check-rdb "$part/redis.rdb" >&2
fi
cd "$part"
set -- *
[ -e "$1" ] || { echo "nothing to save: set WEIGHTS_DIR, KEYS_FILE or REDIS_HOST" >&2; exit 2; }
sha256sum "$@" >SHA256SUMS
cd - >/dev/null
sync
mv "$part" "$BACKUP_ROOT/$name"
trap - EXIT

# Names sort as times; what else lies there stays.
cd "$BACKUP_ROOT"
set -- [0-9]*T[0-9]*Z
while [ $# -gt "$keep" ]; do
    rm -rf "./$1"
    shift
done
echo "$BACKUP_ROOT/$name"
