"""Optional packages: asked for by name before they are imported, so that what is missing is said once and plainly."""

from __future__ import annotations

from importlib.util import find_spec


def lacking(module: str, extra: str) -> str | None:
    """None if `module` can be imported, else the command that installs it. Imports at most its parent packages."""
    try:
        found = find_spec(module)
    except ModuleNotFoundError:
        found = None
    return None if found else f'pip install "connector-registry[{extra}]"'
