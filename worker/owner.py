"""This process's name in leases and signs of life.

Host and process id are not enough: hosts are cloned with their names, and in containers many processes have the same
small id. Two with one name would hold one lease together, and count as one.
"""

from __future__ import annotations

import os
import socket
from secrets import token_hex


class _Drawn:
    """The part that is this process's alone."""

    number = token_hex(4)

    @classmethod
    def anew(cls) -> None:
        cls.number = token_hex(4)


os.register_at_fork(after_in_child=_Drawn.anew)


def owner() -> str:
    """``host:process:number``, for as long as the process lives; no other has it, wherever it runs."""
    return f"{socket.gethostname()}:{os.getpid()}:{_Drawn.number}"
