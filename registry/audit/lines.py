"""The audit log as a file of JSON lines, for log shippers and write-once storage."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from registry.audit import START, AuditRecord, Entry, Head, chained
from registry.errors import StoreUnavailable

T = TypeVar("T")

_LONGEST = 64 * 1024
"""Bytes at the file's end in which its last line begins."""


class LinesAudit:
    """An `AuditSink` in the file `path`, one record a line: ``{"record": text, "hash": hash}``.

    A lock on the file makes one chain of what several processes append. A last line that a crash left unfinished was
    never acknowledged; the next record takes its place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def append(self, entries: Sequence[Entry]) -> Head:
        """See `AuditSink`."""

        def work(file: BinaryIO) -> Head:
            fcntl.flock(file, fcntl.LOCK_EX)
            records = chained(entries, _head(file))
            file.write(b"".join(_line(record) for record in records))
            file.flush()
            os.fsync(file.fileno())
            return Head(records[-1].number, records[-1].hash)

        return await self._with_file(work)

    async def records(self, after: int = 0, limit: int = 500) -> list[AuditRecord]:
        """See `AuditSink`."""
        return await self._with_file(lambda file: list(islice(_read(file), after, after + limit)))

    async def latest(self, limit: int = 50, *, tenant: str | None = None) -> list[AuditRecord]:
        """See `AuditSink`. Reads the whole file."""

        def work(file: BinaryIO) -> list[AuditRecord]:
            return list(deque((row for row in _read(file) if tenant in (None, _tenant(row))), limit))

        return await self._with_file(work)

    async def aclose(self) -> None:
        """Nothing is kept open."""

    async def _with_file(self, work: Callable[[BinaryIO], T]) -> T:
        return await asyncio.to_thread(self._opened, work)

    def _opened(self, work: Callable[[BinaryIO], T]) -> T:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            with self._path.open("r+b") as file:
                return work(file)
        except OSError as error:
            raise StoreUnavailable(f"the audit log {self._path} cannot be used: {error.strerror}") from error


def _line(record: AuditRecord) -> bytes:
    return json.dumps({"record": record.text, "hash": record.hash}, separators=(",", ":")).encode() + b"\n"


def _parsed(number: int, line: bytes) -> AuditRecord:
    """A line as a record; what is none becomes a record that no chain accepts."""
    try:
        row = json.loads(line)
        return AuditRecord(number, str(row["record"]), str(row["hash"]))
    except (ValueError, KeyError, TypeError):
        return AuditRecord(number, line.decode(errors="replace"), "")


def _read(file: BinaryIO) -> Iterator[AuditRecord]:
    for number, line in enumerate(file, start=1):
        if line.endswith(b"\n"):
            yield _parsed(number, line)


def _tenant(record: AuditRecord) -> object:
    try:
        return record.as_dict().get("tenant")
    except ValueError:
        return None


def _head(file: BinaryIO) -> Head:
    """The last whole line's head; the file is left standing behind it, without an unfinished line."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _LONGEST)
    file.seek(start)
    tail = file.read()
    whole = tail[: tail.rfind(b"\n") + 1]
    file.seek(start + len(whole))
    file.truncate()
    if not whole:
        return START
    last = _parsed(0, whole[:-1].rpartition(b"\n")[2])
    try:
        return Head(int(last.as_dict()["number"]), last.hash)
    except (ValueError, KeyError, TypeError):
        raise StoreUnavailable("the audit log ends in no record: run `connectors audit verify`") from None
