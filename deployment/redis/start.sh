#!/bin/sh
# Starts Redis with its configuration on standard input: the password is in no file and in no list of
# processes, and Redis itself is process 1, which gets SIGTERM and saves.
set -eu
: "${REDIS_PASSWORD:?REDIS_PASSWORD is empty}"
case $REDIS_PASSWORD in
*[!A-Za-z0-9_-]*)
    echo "REDIS_PASSWORD holds more than letters, digits, _ and -, which an address cannot carry" >&2
    exit 2
    ;;
esac
configuration=$(cat "${REDIS_CONF:-/etc/redis/redis.conf}")
exec redis-server - <<EOF
$configuration
requirepass $REDIS_PASSWORD
EOF
