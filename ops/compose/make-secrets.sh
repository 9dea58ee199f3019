#!/usr/bin/env bash
# Makes the secret files of docker-compose.yml that are not there yet; those that are stay as they are.
# The folder is closed, its files are readable: the containers' users, who see only the file, have other ids than yours.
set -euo pipefail
cd "$(dirname "$0")"
umask 077
mkdir -p secrets

make_file() {
  [ -e "secrets/$1" ] && return
  printf "$2" "$(head -c 32 /dev/urandom | base64)" >"secrets/$1"
  chmod 444 "secrets/$1"
}

make_file app.env 'ENCRYPTION_KEYS=%s\n'
make_file grafana_password '%s'
