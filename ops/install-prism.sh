#!/usr/bin/env bash
# Installs Prism, as tests/contract/package-lock.json pins it, into tests/contract/node_modules; no package's script is run.
# The lock is copied there last, so an interrupted installation is made again.
set -euo pipefail
cd "$(dirname "$0")/../tests/contract"

fail() { echo "Prism cannot be installed: $*" >&2; exit 1; }

exec 9<package.json
flock 9
stamp=node_modules/.installed
cmp --quiet package-lock.json "$stamp" && exit 0
command -v npm >/dev/null || fail "npm is missing, install Node.js 20 or newer"
echo "Installing Prism (some seconds at the first time)"
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null || fail "npm ci failed in tests/contract"
cp package-lock.json "$stamp"
