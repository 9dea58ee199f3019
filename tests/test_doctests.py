"""The examples in docstrings do what they show."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

from registry.bootstrap import _default_of
from registry.settings import Settings

ROOT = Path(__file__).parent.parent
SHOWING = [file for file in sorted((ROOT / "registry").rglob("*.py")) if ">>> " in file.read_text(encoding="utf-8")]


@pytest.mark.parametrize("file", SHOWING, ids=lambda file: file.stem)
def test_the_examples_of_a_module_run(
    file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.chdir(tmp_path)
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    failed, tried = doctest.testmod(import_module(name), extraglobs={"REDIS_URL": settings.redis_url})
    _default_of.cache_clear()
    assert (failed, tried > 0) == (0, True)
