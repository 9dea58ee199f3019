"""What checks and probes are aimed at in a benchmark, plain and behind TLS.

nginx with GitHub's documented answer takes nearly nothing of the machine. The demo vendors work out an answer for each
tenant, in one process of Python: they are the slower side, so what is compared there is the CPU of those who ask.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.servers import program
from worker.demo.vendors import DemoVendors

PATH = "/rate_limit"
RATE = {"limit": 5000, "used": 1, "remaining": 4999, "reset": 1_890_000_000}
ANSWER = json.dumps({"resources": {"core": RATE, "search": RATE, "graphql": RATE}, "rate": RATE})
HEADERS = {
    "X-OAuth-Scopes": "repo, read:org",
    "X-RateLimit-Limit": "5000",
    "X-RateLimit-Remaining": "4999",
    "X-GitHub-Request-Id": "ABCD:1234",
}
CONF = """
daemon off; worker_processes 2; pid {at}/pid; error_log {at}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u;
  scgi_temp_path {at}/s;
  server {{
    listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl;
    ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem;
    location {path} {{ default_type "application/json; charset=utf-8"; {headers} return 200 '{answer}'; }}
  }}
}}
"""


@dataclass(frozen=True)
class Target:
    """What runs: its two addresses, the certificate to trust, and what to say of it in a row; `limits`: it is slow."""

    plain: str
    tls: str
    certificate: Path
    name: str = ""
    limits: bool = False


def token(number: int) -> str:
    """A credential of GitHub's length, which the demo vendors know for a tenant's."""
    return f"ghp_demo_{number:031}"


@contextmanager
def nginx() -> Iterator[Target]:
    """nginx of the benchmark's own."""
    binary = program("nginx", package="nginx-light")
    with tempfile.TemporaryDirectory(prefix="cr-nginx-") as directory:
        at, plain, tls = Path(directory), free_port(), free_port()
        _certify(at)
        headers = " ".join(f'add_header {name} "{value}";' for name, value in HEADERS.items())
        text = CONF.format(at=at, plain=plain, tls=tls, path=PATH, headers=headers, answer=ANSWER)
        (at / "nginx.conf").write_text(text)
        process = subprocess.Popen([binary, "-c", str(at / "nginx.conf")], stderr=subprocess.DEVNULL)
        try:
            for port in (plain, tls):
                while not listening(port):
                    assert process.poll() is None, (at / "error.log").read_text()
            yield Target(f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls}", at / "cert.pem")
        finally:
            process.terminate()
            process.wait()


@contextmanager
def demo_vendors() -> Iterator[Target]:
    """The demo vendors' GitHub, as `make run` has it, in a process of its own that listens on both addresses."""
    with tempfile.TemporaryDirectory(prefix="cr-demo-") as directory:
        at, plain, tls = Path(directory), free_port(), free_port()
        _certify(at)
        process = get_context("spawn").Process(target=_serve, args=(plain, tls, directory), daemon=True)
        process.start()
        try:
            for port in (plain, tls):
                while not listening(port):
                    assert process.is_alive()
            addresses = f"http://127.0.0.1:{plain}/github", f"https://127.0.0.1:{tls}/github"
            yield Target(*addresses, at / "cert.pem", "demo vendors (they limit the rate), ", limits=True)
        finally:
            process.terminate()
            process.join()


def _serve(plain: int, tls: int, at: str) -> None:
    async def serve() -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(f"{at}/cert.pem", f"{at}/key.pem")
        async with DemoVendors(port=plain), DemoVendors(port=tls, ssl_context=context):
            await asyncio.Event().wait()

    asyncio.run(serve())


@contextmanager
def blackbox(target: Target) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A blackbox exporter that trusts the target's certificate: the address of its probes, and its process."""
    binary = program("prometheus-blackbox-exporter", package="prometheus-blackbox-exporter")
    with tempfile.TemporaryDirectory(prefix="cr-blackbox-") as directory:
        config, port = Path(directory) / "blackbox.yml", free_port()
        http = {"preferred_ip_protocol": "ip4", "tls_config": {"ca_file": str(target.certificate)}}
        config.write_text(json.dumps({"modules": {"get": {"prober": "http", "timeout": "10s", "http": http}}}))
        command = [binary, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            while not listening(port):
                assert process.poll() is None
            yield f"http://127.0.0.1:{port}/probe?module=get&target=", process
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def listening(port: int) -> bool:
    """Does somebody listen there?"""
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def _certify(at: Path) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (at / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (at / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
