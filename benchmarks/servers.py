"""Where the servers are that a benchmark measures against, and what to do when one is missing."""

from __future__ import annotations

import os
import shutil

INSTALL = "ops/install-bench-servers.sh"


def program(*names: str, package: str) -> str:
    """The path of the first of `names` there is; else the benchmark ends with one sentence, `package` is Debian's."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])  # where Debian has nginx
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    raise SystemExit(f"{names[0]} is missing: on Debian install the package {package} (as root, {INSTALL} does)")


def redis_program() -> str:
    """Redis, or Valkey."""
    return program("redis-server", "valkey-server", package="redis-server")
