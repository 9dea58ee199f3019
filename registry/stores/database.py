"""A SQLite file used from a thread of its own: opened on first use, safe beside other processes and across forks.

SQLite keeps its view of file locks in process memory, so a child that inherits an open database believes in locks
it does not hold (https://sqlite.org/howtocorrupt.html, section 2.6). Hence every database of this process is closed
just before a fork, and opened again by whoever uses it next.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from registry.errors import StoreUnavailable

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class Database:
    """One SQLite file.

    Args:
        path: the file; it and its directory are created when missing, readable by their owner only.
        schema: SQL that makes the tables if they are missing.
        version: of that schema; a file with a later one is refused.
        busy_timeout: seconds to wait for another process's write.
    """

    def __init__(self, path: Path, *, schema: str, version: int, busy_timeout: float) -> None:
        self.path = path
        self._schema = schema
        self._version = version
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._lock = threading.Lock()  # held during each piece of work, so that a fork waits for its end
        self._thread = self._new_thread()
        _databases.add(self)

    async def read(self, work: Work[T]) -> T:
        """Run `work` in the database's thread. Raises `StoreUnavailable`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    async def write(self, work: Work[T]) -> T:
        """Run `work` as one transaction that excludes every other writer. Raises `StoreUnavailable`."""

        def transaction(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

        return await self.read(transaction)

    async def aclose(self) -> None:
        """Close the file and end the thread; the next use opens both again."""
        thread, self._thread = self._thread, self._new_thread()
        await asyncio.get_running_loop().run_in_executor(thread, self._locked_close)
        thread.shutdown(wait=True)

    def _run(self, work: Work[T]) -> T:
        with self._lock:
            try:
                return work(self._opened())
            except (sqlite3.DatabaseError, OSError) as error:
                self._close()
                if isinstance(error, sqlite3.ProgrammingError | sqlite3.IntegrityError):
                    raise
                raise StoreUnavailable(f"the configuration store {self.path} cannot be used: {error}") from error
            except StoreUnavailable:
                self._close()
                raise

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None and self._inode != _inode(self.path):
            self._close()  # the file was replaced: what is written to the old one would be lost
        if self._connection is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.touch(mode=0o600)
            self._connection = sqlite3.connect(
                self.path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
            )
            self._inode = _inode(self.path)
            self._prepare(self._connection)
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        for attempt in Retrying(
            retry=retry_if_exception_type(sqlite3.OperationalError),
            stop=stop_after_delay(self._busy_timeout),
            wait=wait_random(0.01, 0.05),
            reraise=True,
        ):
            with attempt:  # changing the journal mode ignores the busy timeout
                connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a configuration once acknowledged survives a power cut
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > self._version:
            raise StoreUnavailable(
                f"the configuration store {self.path} has layout {found}, this version knows {self._version}"
            )
        if found < self._version:
            connection.executescript(f"BEGIN IMMEDIATE; {self._schema} PRAGMA user_version = {self._version}; COMMIT;")

    def _locked_close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _new_thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="sqlite")

    def hold(self) -> None:
        """Before a fork: wait for the running work, close the file, let nobody open it."""
        self._lock.acquire()
        self._close()

    def release(self, *, child: bool) -> None:
        """After a fork; the child has none of its parent's threads and gets a new one."""
        if child:
            self._thread = self._new_thread()
        self._lock.release()


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_held: list[Database] = []
_forking = threading.Lock()


def _before_fork() -> None:
    _forking.acquire()
    _held.extend(_databases)
    for database in _held:
        database.hold()


def _after_fork(*, child: bool) -> None:
    for database in _held:
        database.release(child=child)
    _held.clear()
    _forking.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(child=False),
    after_in_child=lambda: _after_fork(child=True),
)
