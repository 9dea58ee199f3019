"""The settings of a benchmark."""

from __future__ import annotations

from pydantic_settings import SettingsConfigDict

from registry import settings


class Settings(settings.Settings):
    """What the benchmark says, else the environment and the defaults; not what `connectors up` has left in ``.run``."""

    model_config = SettingsConfigDict(env_file=None)
