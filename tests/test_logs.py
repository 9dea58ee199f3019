"""Logs as a process of ours writes them: JSON with what they are about, and nothing that looks like a credential."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from registry.logs import mask
from registry.settings import Settings

ROOT = Path(__file__).parent.parent
SECRET = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"


def logged(code: str, **environment: str) -> str:
    """What a process with this code writes to stderr."""
    start = "import asyncio, logging, structlog\nfrom registry.logs import configure_logs\n"
    start += "from registry.settings import load_settings\nconfigure_logs(load_settings())\n"
    start += f"log, SECRET = structlog.get_logger('test'), {SECRET!r}\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", start + textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LOG_FORMAT": "json", **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_is_json_with_time_level_and_origin() -> None:
    (row,) = rows(logged("log.info('started', workers=4)"))
    assert (row["event"], row["workers"], row["level"], row["logger"]) == ("started", 4, "info", "test")
    assert row["timestamp"].endswith("Z")


def test_the_standard_librarys_records_have_the_same_form() -> None:
    (row,) = rows(logged("logging.getLogger('celery.x').warning('lost %s of %d', 'batch', 7)"))
    assert (row["event"], row["level"], row["logger"]) == ("lost batch of 7", "warning", "celery.x")


RAISES = """
try:
    held = SECRET
    raise ValueError(f"nothing for {held}")
except ValueError:
    %s
"""
LEAKS = [
    "log.info(f'got {SECRET}')",
    "log.info('got', answer=SECRET)",
    "log.info('got', headers={'x': {'deep': [SECRET, (SECRET,)]}})",
    "log.info('got', answer=SECRET.encode())",
    "log.info('got', seen={SECRET: 1})",
    "log.info('got', error=ValueError(SECRET))",
    "logging.getLogger('x').warning('got %s', SECRET)",
    "logging.getLogger('x').warning('got %s', {'Authorization': f'Bearer {SECRET}'})",
    RAISES % "log.exception('failed')",
    RAISES % "log.error('failed', exc_info=True)",
    RAISES % "logging.getLogger('x').exception('failed')",
    "log.info('got', url=f'https://user:{SECRET}@example.com')",
    "log.info('got', pem='-----BEGIN PRIVATE KEY-----\\n' + SECRET + '\\n-----END PRIVATE KEY-----')",
]


@pytest.mark.parametrize("form", ["json", "console"])
def test_what_looks_like_a_credential_is_masked_however_it_is_logged(form: str) -> None:
    text = logged("\n".join(f"log.info('case {n}')\n{code}" for n, code in enumerate(LEAKS)), LOG_FORMAT=form)
    cases = text.split("case ")[1:]
    assert len(cases) == len(LEAKS)
    assert [case for case in cases if SECRET[4:] in case or "masked" not in case] == []


def test_what_is_called_a_secret_is_not_shown_whatever_it_looks_like() -> None:
    names = ["password", "api_key", "access_token", "client_secret", "Authorization"]
    text = logged(f"for name in {names}: log.info('got', body={{name: 'plain words', 'user': 'ann'}})")
    assert [row["body"] for row in rows(text)] == [{name: "[masked]", "user": "ann"} for name in names]


def test_nothing_below_a_secrets_name_is_shown() -> None:
    secrets = {"password": b"hunter", "credentials": {"value": "hunter", "more": [{"x": "hunter"}]}}
    headers = [("Authorization", "hunter"), (b"PRIVATE-TOKEN", b"hunter"), ("Accept", "text/plain")]
    event = mask(None, "info", {**secrets, "headers": headers, "tokens": 3})
    assert "hunter" not in str(event)
    assert (event["headers"][-1], event["tokens"]) == (["Accept", "text/plain"], 3)
    words = {"scopes": ["read_token", "users:read"], "who": ("secret-scanner", "acme")}
    assert mask(None, "info", dict(words)) == {
        "scopes": ["read_token", "users:read"],
        "who": ["secret-scanner", "acme"],
    }


def test_a_traceback_keeps_its_lines_and_its_end() -> None:
    (row,) = rows(logged(RAISES % "log.exception('failed')"))
    assert row["exception"].splitlines()[0] == "Traceback (most recent call last):"
    assert row["exception"].splitlines()[-1] == "ValueError: nothing for [masked]"


CHECKS = """
from registry.bootstrap import assemble
from registry.ids import Pair
from tests.plugin import Plugin, plugin_config
from worker.batch import Batch
from worker.dispatch import dispatch
from worker.monitor import Monitor

async def main():
    parts = assemble()
    parts.catalog.register("plugin", Plugin)
    for tenant in ("acme", "globex"):
        await parts.configurations.set(Pair("plugin", tenant), plugin_config(bug="plugin-token-1"), actor="ann")
    sent = []
    await dispatch(parts, lambda batch: sent.append(batch))
    for batch in sent:
        await Monitor(parts).check_batch(batch)
    await parts.aclose()

asyncio.run(main())
"""


def test_a_checks_line_tells_tenant_connector_check_and_batch(settings: Settings) -> None:
    (key,) = settings.encryption_keys
    told = {"REDIS_URL": settings.redis_url, "SQLITE_PATH": str(settings.sqlite_path)}
    text = logged(CHECKS, **told, ENCRYPTION_KEYS=key.get_secret_value())
    (broke,) = [row for row in rows(text) if row["event"] == "check_broke"]
    assert broke["tenant"] in ("acme", "globex"), "one line for a bug that breaks every check"
    assert broke["connector"] == "plugin"
    assert isinstance(broke["check"], int)
    assert len(broke["batch"]) == 32
    assert broke["error"] == "ZeroDivisionError: [masked]", "the message held the tenant's own credential"
    assert broke["where"].startswith("plugin.py:")
