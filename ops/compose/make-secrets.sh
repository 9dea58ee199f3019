#!/usr/bin/env bash
# Makes the secret files of docker-compose.yml that are not there yet; those that are stay as they are.
# The folder is closed, its files are readable: the containers' users, who see only the file, have other ids than yours.
set -euo pipefail
cd "$(dirname "$0")"
umask 077
mkdir -p secrets

make_file() {
  [ -e "secrets/$1" ] && return
  # shellcheck disable=SC2059 # the format is one of those below
  printf "$2" "$(head -c 32 /dev/urandom | base64)" >"secrets/$1"
  chmod 444 "secrets/$1"
}

make_file app.env 'ENCRYPTION_KEYS=%s\n'
make_file grafana_password '%s'
# Alerts are shown by Alertmanager in any case; write the address of a Slack-compatible webhook here to have them sent.
make_file on_call_url 'http://127.0.0.1:9/%.0s'
make_file support_url 'http://127.0.0.1:9/%.0s'
