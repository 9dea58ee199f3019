"""Every setting, with its default and meaning. The only reader of the environment.

Values come from the environment, then from ``.run/env`` (written by ``connectors up``), then from here.
The table in ``docs/settings.md`` is generated from these descriptions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from registry.addresses import BrokerAddress, GatewayAddress, RedisAddress, WebAddress, web_address
from registry.errors import InvalidConfig

Seconds = Annotated[float, Field(gt=0)]
Network = IPv4Network | IPv6Network
RUN_DIR = Path(".run")
"""Where ``connectors up`` keeps everything it makes: data, logs, sockets, ``env``."""


class Settings(BaseSettings):
    """All settings of the registry, the workers and the command line; each is an environment variable.

    Addresses of servers may hold a password, so they are not part of the ``repr``.
    """

    model_config = SettingsConfigDict(
        env_file=RUN_DIR / "env", extra="ignore", frozen=True, hide_input_in_errors=True, enable_decoding=False
    )

    redis_url: RedisAddress = Field(
        "redis://127.0.0.1:6379/1",
        description="The health cache and the schedule; behind Sentinel `redis+sentinel://host:26379,host2/service/1`.",
        repr=False,
    )
    broker_url: BrokerAddress = Field(
        "redis://127.0.0.1:6379/0", description="Celery's broker, in Celery's spelling; `noeviction`.", repr=False
    )
    broker_master: str = Field("mymaster", description="The service's name where `BROKER_URL` is `sentinel://…`.")
    redis_timeout: Seconds = Field(5.0, description="Seconds a worker waits for Redis to connect or answer.")
    read_timeout: Seconds = Field(0.05, description="Seconds a facade read waits for Redis before it says unknown.")
    shards: int = Field(16, ge=1, le=1024, description="Shards of cache and schedule; fixed for a deployment.")

    config_store: Literal["sqlite", "firestore", "memory"] = Field("sqlite", description="Where configurations live.")
    sqlite_path: Path = Field(RUN_DIR / "registry.db", description="The embedded store's file.")
    firestore_project: str | None = Field(None, description="Google Cloud project of Firestore; None: the default one.")
    firestore_database: str = Field("(default)", description="Firestore database.")

    encryption_keys: tuple[SecretStr, ...] = Field(
        (), description="Keys for `enc://` secrets, comma-separated base64 of 32 bytes; the first seals, all open."
    )
    secrets_dir: Path = Field(RUN_DIR / "secrets", description="Root of `file://` secrets, one folder a tenant.")
    secret_manager_project: str | None = Field(None, description="Google Cloud project of `gcp://` secrets.")
    secret_manager_prefix: str = Field("connector-", description="How the names of our `gcp://` secrets begin.")
    secret_ttl: Seconds = Field(300.0, description="Seconds a resolved secret is kept in memory.")
    secret_capacity: int = Field(
        100_000, ge=1, description="Pairs whose `gcp://` and `file://` secrets one process keeps, 1 KB each and more."
    )

    audit: Literal["auto", "sqlite", "firestore", "file", "memory"] = Field(
        "auto", description="Where the audit log is kept; `auto`: beside the configurations."
    )
    audit_path: Path = Field(RUN_DIR / "audit.jsonl", description="The audit log's file, if it is one.")
    audit_reads: bool = Field(default=True, description="Record loads of connectors and first uses of secrets too.")

    check_interval: Seconds = Field(60.0, description="Seconds between two checks of a healthy pair.")
    check_intervals: dict[str, Seconds] = Field(
        {}, description='Intervals of connectors that have their own, seconds, as JSON (`{"vertex": 300}`).'
    )
    tenant_intervals: dict[Annotated[str, Field(pattern=r"^[^*]")], Seconds] = Field(
        {},
        description='Intervals of tenants that have their own, seconds, as JSON (`{"acme": 300}`); before those of '
        "connectors, and behind `interval` in a configuration.",
    )
    check_timeout: Seconds = Field(10.0, description="Seconds a check may take, from its first request.")
    claim_lease: Seconds = Field(60.0, description="Seconds after which an unfinished claim is due again.")
    fresh_grace: Seconds = Field(30.0, description="Seconds a verdict may be overdue before it reads as stale.")
    confirm_delay: Seconds = Field(5.0, description="Seconds until a first transient failure is checked again.")
    believe_delay: Seconds = Field(30.0, description="Seconds until a first definitive failure is checked again.")
    backoff_max: Seconds = Field(900.0, description="Longest interval of a definitively broken pair, seconds.")
    unhealthy_threshold: int = Field(2, ge=1, description="Transient failures in a row that turn a pair unhealthy.")
    healthy_threshold: int = Field(1, ge=1, description="Good checks in a row that turn it back.")

    vendor_budgets: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {},
        description='Checks an hour that a connector gets at most, all tenants together, as JSON (`{"github": 5000}`).',
    )
    tenant_budgets: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description='Checks an hour that a tenant gets at most; `*`: every other (`{"*": 600, "acme": 120}`).'
    )
    budget_window: Seconds = Field(3600.0, description="Seconds that count as the hour of the budgets.")

    dispatch_every: Seconds = Field(1.0, description="Seconds between two ticks of `dispatch`.")
    publish_every: Seconds = Field(15.0, description="Seconds between two pushes to the Pushgateway.")
    reconcile_every: Seconds = Field(30.0, description="Seconds between two looks at the store's changes.")
    reconcile_full_every: Seconds = Field(3600.0, description="Seconds between two full comparisons with the store.")
    batch_size: int = Field(200, ge=1, le=1000, description="Pairs in one `check_batch` task.")
    batch_patience: Seconds = Field(2.0, description="Seconds a batch holds a worker; slower checks end behind it.")
    in_flight_seconds: Seconds = Field(5.0, description="Work in flight for each live check process, seconds.")
    host_concurrency: int = Field(50, ge=1, description="Checks one process runs against one vendor host at a time.")

    history: bool = Field(default=True, description="Keep uptime, latency and transitions of every pair, 1 KB each.")

    instance_capacity: int = Field(1_000, ge=1, description="Connectors one registry keeps ready, at most.")
    instance_idle: Seconds = Field(900.0, description="Seconds after which an unused connector is closed.")
    instance_grace: float = Field(60.0, ge=0, description="Seconds a connector from `get` stays open when replaced.")
    route_groups: dict[str, tuple[str, ...]] = Field(
        {}, description='Groups for `route`, best first, as JSON (`{"chat": ["slack", "teams"]}`).'
    )

    egress_allow: tuple[Network, ...] = Field(
        (), description="Networks tenants' URLs may reach although private, comma-separated (`10.2.0.0/16`)."
    )
    vendor_urls: dict[str, WebAddress] = Field(
        {}, description='Base URLs that replace a vendor\'s own, as JSON (`{"github": "https://…"}`).'
    )

    connector_pins: dict[str, str] = Field(
        {},
        description='Whose connector a name is if several packages offer it, as JSON (`{"github": "my-github"}`).',
    )

    status_pages_every: float = Field(
        300.0, ge=0, description="Seconds between two looks at the vendors' status pages; 0: they are not read."
    )
    status_page_urls: dict[str, WebAddress] = Field(
        {}, description="Addresses that replace a connector's status page, as JSON; an empty one switches it off."
    )

    canary_url: WebAddress | None = Field(
        None, description="An address of yours that answers whenever your network works."
    )
    incident_window: Seconds = Field(60.0, description="Seconds of checks that incidents are found from.")
    incident_share: float = Field(0.2, gt=0, le=1, description="Part of an endpoint's checks that must fail.")
    incident_tenants: int = Field(5, ge=2, description="Tenants of an endpoint that must see it, at least.")
    incident_hold: Seconds = Field(900.0, description="Seconds mass rejections are the vendor's before believed.")
    incidents_every: Seconds = Field(5.0, description="Seconds between two looks for incidents.")

    pushgateway_url: GatewayAddress | None = Field(
        None, description="Where gauges are pushed; None: nowhere.", repr=False
    )
    pushgateway_job: str = Field("connector_health", description="The `job` of every pushed group.")
    push_groups: int = Field(
        1,
        ge=1,
        le=1024,
        description="Groups that all pairs are pushed in: more are smaller, and each costs as much anew.",
    )
    pushgateway_timeout: Seconds = Field(10.0, description="Seconds one PUT may take.")
    pushgateway_user: str | None = Field(None, description="User of the Pushgateway, unless its URL names one.")
    pushgateway_password_file: Path | None = Field(
        None, description="File that holds that user's password; read anew at each push."
    )
    pushgateway_ca_file: Path | None = Field(
        None, description="Certificates (PEM) that the Pushgateway's must descend from; None: the system's."
    )
    metrics_environment: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]{0,40}$",
        description="Deployments that share a Pushgateway differ in it: it follows `PUSHGATEWAY_JOB` after a `_`.",
    )
    metrics_tenants: Literal["plain", "opaque", "off"] = Field(
        "plain", description="Series for every pair: `plain` ids, `opaque` labels, or only aggregates (`off`)."
    )
    metrics_tenants_key: SecretStr | None = Field(
        None,
        validate_default=True,
        description="The secret that opaque labels are made with; another one makes other labels.",
    )
    metrics_host: str = Field("127.0.0.1", description="Address `/metrics` is served at.")
    metrics_port: int = Field(9464, ge=0, le=65535, description="Port `/metrics` is served at; 0: any free one.")
    cloud_monitoring_project: str | None = Field(
        None, description="Google Cloud project whose Cloud Monitoring gets the aggregates; None: none."
    )
    cloud_monitoring_every: float = Field(
        60.0, ge=60, description="Seconds between two exports: one point a series and minute is what it may be sent."
    )
    cloud_monitoring_pairs: int = Field(
        0, ge=0, description="Every pair's health is exported too while there are no more of them; tenants `plain`."
    )
    heartbeat_url: SecretStr | None = Field(
        None, description="Address that is told while the whole monitor works (`/fail` behind it: when it is ill)."
    )
    heartbeat_every: Seconds = Field(60.0, description="Seconds between two calls of `HEARTBEAT_URL`.")
    heartbeat_timeout: Seconds = Field(5.0, description="Seconds one such call may take.")
    heartbeat_dir: Path = Field(
        RUN_DIR / "heartbeats", description="Heartbeat files of this host's processes, for probes; one a container."
    )
    heartbeat_stale: Seconds = Field(60.0, description="Seconds without a heartbeat after which a process hangs.")

    webhooks_file: Path | None = Field(None, description="YAML file of the webhooks that are told; None: nobody is.")
    webhooks_source: str = Field(
        "/connector-registry", description="The `source` of every CloudEvent: which installation speaks."
    )
    webhooks_every: Seconds = Field(2.0, description="Seconds between two looks for something to tell.")
    flap_turns: int = Field(6, ge=2, description="Transitions of a pair within `FLAP_WINDOW` that make it flap.")
    flap_window: Seconds = Field(600.0, description="Seconds; see `FLAP_TURNS`.")
    flap_quiet: Seconds = Field(300.0, description="Seconds without a transition after which a pair flaps no more.")

    api_host: str = Field("127.0.0.1", description="Address the HTTP API and the dashboard are served at.")
    api_port: int = Field(8080, ge=0, le=65535, description="Port they are served at; 0: any free one.")
    api_tls_certificate: Path | None = Field(
        None, description="Certificate chain (PEM) to serve them by TLS; None: a proxy in front does, or nobody."
    )
    api_tls_key: Path | None = Field(None, description="The certificate's private key (PEM).")
    api_proxies: str = Field(
        "127.0.0.1", description="Addresses, comma-separated, whose `X-Forwarded-For` and `-Proto` are believed."
    )
    api_rate: Annotated[float, Field(gt=0)] = Field(
        50.0, description="Units a second that one token may use; a read costs 1, a write 5, a check 10."
    )
    api_burst: float = Field(300.0, ge=20, description="Units that one token may use at once.")
    api_body: int = Field(65_536, ge=1_024, description="Bytes a request's body may have; keys of Google fit in.")
    api_timeout: Seconds = Field(30.0, description="Seconds a request may take until its answer begins.")
    api_connections: int = Field(1_000, ge=10, description="Connections one process serves at a time.")
    api_session: Seconds = Field(43_200.0, description="Seconds a browser stays signed in.")
    api_public_badges: bool = Field(default=False, description="Show the vendors' badges without a token.")

    log_format: Literal["auto", "json", "console"] = Field("auto", description="`auto`: console on a terminal.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="What is logged.")

    @property
    def metrics_job(self) -> str:
        """The `job` of this deployment's groups on the Pushgateway."""
        return "_".join(filter(None, (self.pushgateway_job, self.metrics_environment)))

    @property
    def metrics_groups(self) -> int:
        """Groups that hold pairs: shards are not divided, so there are never more."""
        return min(self.push_groups, self.shards)

    @property
    def metrics_url(self) -> str:
        """Where ``connectors metrics`` serves."""
        return f"http://{_host(self.metrics_host)}:{self.metrics_port}/metrics"

    @property
    def api_url(self) -> str:
        """Where ``connectors serve`` serves."""
        scheme = "https" if self.api_tls_certificate else "http"
        return f"{scheme}://{_host(self.api_host)}:{self.api_port}"

    @property
    def pushgateway_address(self) -> str | None:
        """`pushgateway_url` without user and password, to be shown."""
        if self.pushgateway_url is None:
            return None
        scheme, found, rest = self.pushgateway_url.rpartition("://")
        return f"{scheme if found else 'http'}://{rest.rpartition('@')[2]}"

    @property
    def stream_wait(self) -> float:
        """Seconds a read of a stream waits for news: well within the connection's own timeout."""
        return min(2.0, self.redis_timeout / 2)

    @property
    def broker_redis_url(self) -> str:
        """`broker_url` as `registry.connection` spells it: Celery has its own schemes for Unix sockets and Sentinel."""
        parts = urlsplit(self.broker_url)
        if parts.scheme == "sentinel":
            first, *others = (urlsplit(url) for url in self.broker_url.split(";"))
            hosts = ",".join([first.netloc, *(other.netloc.rpartition("@")[2] for other in others)])
            return f"redis+sentinel://{hosts}/{self.broker_master}/{first.path.strip('/') or 0}"
        if parts.scheme != "redis+socket":
            return self.broker_url
        return f"unix://{parts.netloc}{parts.path}?db={dict(parse_qsl(parts.query)).get('virtual_host', '0')}"

    @field_validator("metrics_tenants", mode="before")
    @classmethod
    def _yes_or_no(cls, value: object) -> object:
        """A yes is `plain`, a no is `off`."""
        return {"true": "plain", "1": "plain", "yes": "plain", "false": "off", "0": "off", "no": "off"}.get(
            str(value).lower(), value
        )

    @field_validator("metrics_tenants_key")
    @classmethod
    def _opaque_by_a_key(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if info.data.get("metrics_tenants") == "opaque" and not (value and value.get_secret_value()):
            raise ValueError("opaque labels are made with it: `openssl rand -base64 32` prints one")
        return value

    @field_validator("heartbeat_url")
    @classmethod
    def _to_be_called(cls, value: SecretStr | None) -> SecretStr | None:
        return value and SecretStr(web_address(value.get_secret_value()))

    @field_validator(
        "check_intervals",
        "tenant_intervals",
        "vendor_budgets",
        "tenant_budgets",
        "route_groups",
        "vendor_urls",
        "connector_pins",
        "status_page_urls",
        mode="before",
    )
    @classmethod
    def _json(cls, value: object) -> object:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError('expected JSON such as {"name": …}') from None

    @field_validator("encryption_keys", "egress_allow", mode="before")
    @classmethod
    def _comma_separated(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def load_settings(*, env_file: Path | None = RUN_DIR / "env") -> Settings:
    """Read the environment, and what `env_file` adds to it.

    Raises:
        InvalidConfig: a variable has an unusable value; the message names each one, not its content.
    """
    try:
        return Settings(_env_file=env_file)
    except ValidationError as error:
        wrong = "; ".join(_told(str(e["loc"][0]).upper(), e["loc"][1:], e["msg"]) for e in error.errors())
        raise InvalidConfig(f"the environment does not fit: {wrong}") from None


def _told(variable: str, within: tuple[int | str, ...], message: str) -> str:
    where = f", {within[0]}" if within and isinstance(within[0], str) else ""
    what = message.removeprefix("Value error, ")
    return f"{variable}{where}: {what[0].lower()}{what[1:]}"


def _host(address: str) -> str:
    """An address as URLs spell it."""
    return f"[{address}]" if ":" in address else address


def environment(more: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """The environment of a child process: this one's, with `more`."""
    return {**os.environ, **more}
