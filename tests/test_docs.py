"""What is written in docs/ is what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from registry.settings import Settings

ROOT = Path(__file__).parent.parent


def test_the_generated_pages_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_a_setting_is_described_and_documented(name: str) -> None:
    assert (Settings.model_fields[name].description or "").endswith(".")
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert f"| `{name.upper()}` |" in page
