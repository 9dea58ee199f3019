"""How many files, and so connections, a process may have open: as many as it is allowed to take."""

from __future__ import annotations

import resource
from contextlib import suppress

ENOUGH = 65_536
"""A process with that many connections has other worries."""


def raise_limit() -> int:
    """Raise this process' limit of open files to `ENOUGH`, or to what the operating system allows; returns the limit.

    Login shells and many containers begin with 1,024, which the kept connections to a thousand hosts use up.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= ENOUGH:
        return soft
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    with suppress(OSError, ValueError):  # some systems allow less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
