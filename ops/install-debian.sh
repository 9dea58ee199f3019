#!/usr/bin/env bash
# Installs the Debian packages named as arguments, those that are missing, without starting or enabling their services.
# Does nothing, successfully, where apt or root is missing: who needs a server says so himself.
set -euo pipefail

command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || exit 0

missing=()
for package in "$@"; do
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

# https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt: 101 forbids that a package starts its service.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod 755 $policy
fi

echo "Installing ${missing[*]} with apt-get, without starting them"
export DEBIAN_FRONTEND=noninteractive
{ apt-get -qq update && apt-get -qq install --yes --no-install-recommends "${missing[@]}"; } </dev/null >/dev/null || {
  echo "apt-get could not install ${missing[*]}: what needs them will say so" >&2
  exit 0
}
if [ -d /run/systemd/system ]; then
  for package in "${missing[@]}"; do systemctl --quiet disable "$package" 2>/dev/null || true; done
fi
