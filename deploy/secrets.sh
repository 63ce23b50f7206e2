#!/bin/sh
# Writes the passwords and the token that compose.yaml asks for to .env, random ones, each once: what is there already stays.
# Only letters and digits, because they become parts of addresses. Run it from anywhere: sh deploy/secrets.sh
set -eu

env=$(dirname "$0")/../.env
umask 077
touch "$env"
chmod 600 "$env"
# A last line without its end would swallow the first password.
[ -z "$(tail -c 1 "$env")" ] || echo >> "$env"

for name in \
    RABBITMQ_OPERATOR_PASSWORD \
    RABBITMQ_INGRESS_PASSWORD \
    RABBITMQ_SYNC_USER_PASSWORD \
    RABBITMQ_PROVISION_DATABASE_PASSWORD \
    POSTGRES_PASSWORD \
    POSTGRES_USHER_PASSWORD \
    POSTGRES_PROVIDER_PASSWORD \
    LOOKUP_TOKEN; do
    grep -q "^$name=." "$env" || printf '%s=%s\n' "$name" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" >> "$env"
done
