"""`registry.wire` uses parts of aiohttp that its documentation does not promise; here is what they have to be."""

import inspect

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_parser import RawResponseMessage

ADVICE = "see docs/adr/0010-one-exchange-on-aiohttps-connections.md"


@pytest.mark.parametrize(
    ("part", "arguments"),
    [
        (aiohttp.ClientRequest, {"method", "url", "loop"}),
        (aiohttp.TCPConnector.connect, {"req", "traces", "timeout"}),
        (
            ResponseHandler.set_response_params,
            {"skip_payload", "read_until_eof", "max_line_size", "max_field_size", "max_headers"},
        ),
        (ResponseHandler.read, set()),
        (aiohttp.StreamReader.read, {"n"}),
        (aiohttp.StreamReader.at_eof, set()),
        (Connection.close, set()),
        (Connection.release, set()),
    ],
    ids=lambda part: part.__qualname__ if callable(part) else "",
)
def test_aiohttp_still_takes_what_the_wire_gives_it(part: object, arguments: set[str]) -> None:
    assert callable(part)
    missing = arguments - inspect.signature(part).parameters.keys()
    assert not missing, f"aiohttp {aiohttp.__version__}: {part} takes no {', '.join(sorted(missing))}; {ADVICE}"


@pytest.mark.parametrize(
    ("part", "names"),
    [
        (ResponseHandler, {"should_close", "set_response_params", "read"}),
        (Connection, {"protocol", "transport", "close", "release"}),
        (RawResponseMessage, {"code", "headers"}),
    ],
)
def test_aiohttp_still_has_what_the_wire_looks_at(part: type, names: set[str]) -> None:
    missing = {name for name in names if not hasattr(part, name)}
    assert not missing, f"aiohttp {aiohttp.__version__}: no {', '.join(sorted(missing))} in {part.__name__}; {ADVICE}"
