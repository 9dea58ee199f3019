"""``connectors webhooks``: what it shows and does, and its exit codes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pytest
import redis

from tests.commands.conftest import Cli
from worker.events import box
from worker.events.message import Message, MessageType

MESSAGE = Message("s0-1-0", MessageType.TRANSITION, 1_000, "acme slack: [b]unhealthy[/b]", {}, "slack", "acme")


@pytest.fixture
def address() -> Iterator[str]:
    """A receiver that takes what has the word ``test`` in it, and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(204 if b"test" in body.lower() else 418)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/T0KEN"
        server.shutdown()
        thread.join()


@pytest.fixture
def hooked(cli: Cli, address: str) -> Cli:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/"
    text = f"webhooks:\n  ops: {{url: '{address}'}}\n  away: {{url: '{nobody}', form: slack}}\n"
    cli.environment.setenv("WEBHOOKS_FILE", cli.write("webhooks.yaml", text))
    return cli


def test_a_test_message_says_whether_it_was_taken(hooked: Cli) -> None:
    assert hooked("webhooks", "test", "ops").out == "ops: taken\n"
    ran = hooked("webhooks", "test", "away")
    assert (ran.code, ran.out.partition(" (")[0]) == (1, "away: not taken")
    assert "T0KEN" not in ran.out + ran.err


def test_an_unknown_webhook_is_a_sentence_with_those_that_are_known(hooked: Cli) -> None:
    ran = hooked("webhooks", "test", "fax")
    assert (ran.code, ran.err) == (2, "webhook fax: not in WEBHOOKS_FILE; known: away, ops\n")


def test_a_file_that_cannot_be_used_is_a_sentence(cli: Cli) -> None:
    for text, told in (
        ("webhooks:\n ops: {url: !!bool abc}", ", line 2: tags"),
        ("webhooks:\n ops: {url: !!timestamp x}", ", line 2: tags"),
        ("webhooks:\n ops: {url: 2001-99-99}", ", line 2: a value cannot be read"),
        ("- " * 3_000 + "x", ", line 1: nested deeper"),
        ("webhooks: {[ops]: {}}", ", line 1: not valid YAML"),
        ("webhooks: \0", ": not valid YAML"),
    ):
        cli.environment.setenv("WEBHOOKS_FILE", cli.write("webhooks.yaml", text))
        ran = cli("webhooks", "list")
        assert (ran.code, len(ran.err.splitlines())) == (2, 1)
        assert ran.err.startswith(f"WEBHOOKS_FILE webhooks.yaml{told}")
    cli.environment.setenv("WEBHOOKS_FILE", cli.write("webhooks.yaml", "webhooks: {ops: {}}"))
    ran = cli("webhooks", "list")
    assert (ran.code, ran.err) == (2, "WEBHOOKS_FILE webhooks.yaml: ops.url: Field required\n")


def test_the_list_tells_who_does_not_take_what_it_is_sent(hooked: Cli, redis_url: str) -> None:
    assert hooked("webhooks", "list").code == 0
    with redis.Redis.from_url(redis_url) as client:
        client.xadd(box.OUTBOX, {"message": msgspec.json.encode(MESSAGE)}, id="2000-0")
        client.hset(box.SENT, "ops", "2000-0")
        client.hset(box.attempts("away"), mapping={"attempts": 2, "next_ms": 1_000})
    ran = hooked("webhooks", "list", "--json")
    assert ran.code == 1
    rows = [(row["webhook"], row["oldest"], row["attempts"]) for row in ran.json()]
    assert rows == [("away", "1970-01-01T00:00:02.000Z", 2), ("ops", None, 0)]
    assert "1970-01-01T00:00:01.000Z" in hooked("webhooks", "list").out


def test_dead_letters_are_shown_and_sent_again_to_their_webhook_alone(hooked: Cli, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.xadd(box.dead("ops"), {"message": msgspec.json.encode(MESSAGE), "told": "HTTP 418"})
        shown = hooked("webhooks", "dead", "ops").out
        assert "acme slack: [b]unhealthy[/b]" in shown
        assert hooked("webhooks", "dead", "ops", "--json").json()[0]["told"] == "HTTP 418"
        assert hooked("webhooks", "replay", "ops").out == "ops: 1 messages are on their way again\n"
        assert hooked("webhooks", "dead", "ops", "--json").json() == []
        (_, fields), *rest = client.xrange(box.OUTBOX)
    assert rest == []
    again = msgspec.json.decode(fields[b"message"], type=Message)
    assert (again.id, again.only) == (MESSAGE.id, "ops")
