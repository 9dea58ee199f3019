#!/usr/bin/env bash
# The real servers of the tests, where root and apt are there; elsewhere the tests themselves say what is missing.
# Chromium and a font for its pictures come with WITH_CHROMIUM=1 only, as `make test-all` says.
# Google's Firestore emulator is not in Debian: package google-cloud-cli-firestore-emulator of Google's own archive.
exec "$(dirname "$0")/install-debian.sh" redis-server prometheus-pushgateway prometheus prometheus-alertmanager systemd faketime ${WITH_CHROMIUM:+chromium fonts-inter}
