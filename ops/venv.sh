#!/usr/bin/env bash
# Makes .venv from requirements-dev.lock, every file checked against its hash, and stamps it last.
# An interrupted run leaves no stamp: the next one starts from nothing, because a half-written package can look whole.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
stamp=$venv/.installed
unfinished=$venv/.installing

fail() { echo "make: $*" >&2; exit 2; }

# Two makes at once: the second waits here and then finds little to do.
exec 9<pyproject.toml
flock 9

python=
for candidate in ${PYTHON:-python3.12 python3.11 python3 python3.13 python3.14}; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || fail "Python 3.11 or newer is needed and ${PYTHON:-none} was found: install it, or name one: make PYTHON=/path/to/python3"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  fail "$python has no venv module: apt-get install python3-venv (as root), then again"

# Reused only if it was finished once, in this very place (scripts hold its path), and its interpreter is still there.
if [ -e "$unfinished" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$PWD" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  echo "Making $venv with $("$python" --version)"
  "$python" -m venv --clear "$venv"
fi
touch "$unfinished"
echo "Installing requirements-dev.lock (about a minute at the first time)"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input install --quiet "$@"; }
pip --require-hashes --requirement requirements-dev.lock
pip --no-deps --no-build-isolation --editable .
rm "$unfinished"
echo "$PWD" >"$stamp"
