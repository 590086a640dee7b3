#!/bin/sh
# Writes ssl/cert.pem and ssl/private.key for trials: a pair that no browser trusts, for 90 days.
#   deployment/nginx/make_self_signed.sh [HOST …]        (default: localhost)
# SSL_DIR changes the folder. A pair that is there is kept.
set -eu
umask 077
folder=${SSL_DIR:-$(dirname "$0")/ssl}
[ $# -gt 0 ] || set -- localhost
for file in cert.pem private.key; do
    if [ -e "$folder/$file" ]; then
        echo "$folder/$file is there already; move it away first" >&2
        exit 2
    fi
done
names=
for host in "$@"; do
    case $host in
    *[!0-9.]*) names="$names,DNS:$host" ;;
    *) names="$names,IP:$host" ;;
    esac
done
mkdir -p "$folder"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -sha256 -days 90 \
    -subj "/CN=$1" -addext "subjectAltName=${names#,}" -addext "basicConstraints=critical,CA:FALSE" \
    -addext "extendedKeyUsage=serverAuth" \
    -keyout "$folder/private.key" -out "$folder/cert.pem"
chmod 644 "$folder/cert.pem"
if [ "$(id -u)" -eq 0 ]; then
    # The user that nginx runs as in the image.
    chown 101:101 "$folder/private.key"
else
    echo "nginx must be able to read the key: set NGINX_USER=$(id -u):$(id -g) in .env.production" >&2
fi
