"""The command line in a directory of its own, on the tests' Redis and an embedded store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich import get_console

from registry.settings import Settings
from worker.cli import main


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Cli:
    """Runs commands as a user does; `directory` is where."""

    directory: Path
    environment: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Ran:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        told = self.capsys.readouterr()
        assert "Traceback" not in told.err
        code = ended.value.code
        return Ran(code if isinstance(code, int) else 0, told.out, told.err)

    def write(self, name: str, text: str) -> str:
        (self.directory / name).write_text(text)
        return name


@pytest.fixture
def cli(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    directory = settings.sqlite_path.parent
    monkeypatch.chdir(directory)
    told = {
        "REDIS_URL": settings.redis_url,
        "BROKER_URL": settings.broker_url,
        "SQLITE_PATH": str(settings.sqlite_path),
        "SECRETS_DIR": str(settings.secrets_dir),
        "ENCRYPTION_KEYS": settings.encryption_keys[0].get_secret_value(),
        "EGRESS_ALLOW": "127.0.0.0/8",
        "SHARDS": str(settings.shards),
        "COLUMNS": "200",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    yield Cli(directory, monkeypatch, capsys)
    get_console().file.flush()
