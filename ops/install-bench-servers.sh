#!/usr/bin/env bash
# What the benchmarks measure against, where root and apt are there.
exec "$(dirname "$0")/install-debian.sh" redis-server nginx-light prometheus-blackbox-exporter prometheus-pushgateway
