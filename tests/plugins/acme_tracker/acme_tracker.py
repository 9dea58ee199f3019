"""ACME Tracker: a made-up vendor, and the smallest whole connector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from registry.advice import advice
from registry.check import CheckSession
from registry.classify import Rule
from registry.connector import BearerAuth, ConnectorConfig, ConnectorMetadata, Deprecation, Limit
from registry.errors import InvalidConfig
from registry.health import Reason
from registry.vendor import Document, Settings, VendorConnector, reveal

_DOCS = "https://tracker.example.com/docs"


class TrackerSettings(Settings):
    """`board`: whose issues are meant."""

    board: str = "main"


class Me(Document):
    """The answer of ``GET /me``."""

    user: str


class AcmeTracker(VendorConnector):
    """One tenant's ACME Tracker key, which travels in a header of its own."""

    manifest = ConnectorMetadata(
        name="acme-tracker",
        version="1.0.0",
        title="ACME Tracker",
        default_base_url="https://tracker.example.com",
        auth_methods=("bearer",),
        steps=("api", "auth"),
        documentation=_DOCS,
        settings=TrackerSettings,
        limits=(Limit(requests=100, seconds=60, per="key", documentation=f"{_DOCS}/limits"),),
        maturity="deprecated",
        deprecation=Deprecation.model_validate({"date": "2027-06-30", "advice": "Use acme-tracker2."}),
    )
    actions: ClassVar[Mapping[Reason, str]] = advice(
        "ACME Tracker",
        "https://status.example.com",
        {Reason.CREDENTIAL_REJECTED: "Ask the tenant for a new ACME Tracker key."},
    )
    rules = (
        Rule(Reason.CREDENTIAL_REJECTED, "the key is not accepted", f"{_DOCS}/errors", (401,)),
        Rule(Reason.PERMISSION_DENIED, "the key may not do this", f"{_DOCS}/errors", (403,)),
    )

    async def check(self, session: CheckSession) -> None:
        """``GET /me`` tells whose key it is."""
        if not isinstance(self.config.auth, BearerAuth):
            raise InvalidConfig("auth.type: ACME Tracker takes bearer")
        headers = {"X-Acme-Key": reveal(self.config.auth.token)}
        reply = await self.ask(session, "GET", f"{self.base_url}/me", Me, headers=headers)
        with session.step("auth"):
            session.note(user=reply.body.user)

    @classmethod
    async def check_service(cls, session: CheckSession, base_url: str) -> None:
        """Without a key, ``GET /me`` is refused."""
        await cls.is_there(session, "GET", f"{base_url}/me", (200, 401))

    @classmethod
    def validate(cls, config: ConnectorConfig) -> None:
        """A board has a name."""
        super().validate(config)
        if config.settings.get("board") == "":
            raise InvalidConfig("settings.board: must not be empty")
