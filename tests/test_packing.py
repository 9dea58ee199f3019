import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import keys
from registry.bootstrap import Parts
from registry.connector import ConnectorConfig
from registry.ids import Pair
from registry.packing import DICTIONARY, packed, unpacked

PAIR = Pair("github", "acme-customer-000001")
CONFIGS = (
    '{"auth":{"type":"bearer","token":"gcp://projects/p/secrets/connector-acme_2dcustomer_2d000001--github/versions/1"}}',
    '{"auth":{"type":"service_account","key":"file://vertex.json"},"settings":{"project":"p","location":"europe-west4"}}',
    '{"auth":{"type":"bearer","token":"enc://5002ff06/hTHaj5KPO0YVqSkyI7BeqcPfoAmd"},"base_url":"https://git.acme.example"}',
)


@pytest.mark.parametrize("text", CONFIGS)
def test_a_configuration_is_read_as_it_was_written_and_shorter(text: str) -> None:
    assert unpacked(packed(text, PAIR), PAIR) == text.encode()
    assert len(packed(text, PAIR)) < 0.65 * len(text)


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    if not text.startswith("z"):  # a configuration is JSON
        assert unpacked(packed(text, PAIR), PAIR) == text.encode()


def test_what_is_not_packed_is_read_as_it_is() -> None:
    assert unpacked(b'{"service":"https://api.example.com"}', PAIR) == b'{"service":"https://api.example.com"}'


def test_what_was_packed_by_this_format_stays_readable() -> None:
    """Wires of this dictionary are in every running Redis: whoever changes it changes `PACKED` as well."""
    kept = bytes.fromhex(KEPT)
    assert json.loads(unpacked(kept, PAIR)) == {"auth": {"type": "bearer", "token": "env://GITHUB"}}
    assert len(DICTIONARY) < 2**15, "deflate looks back 32 KB"


KEPT = "7a23c67090b1ee9e211ea14e40d70000"


@pytest.mark.parametrize("damaged", [b"1\nz\x00\x01nonsense", b"1\nz", b"1\n{", b"1\n"])
async def test_a_damaged_configuration_hurts_its_own_pair_only(parts: Parts, damaged: bytes) -> None:
    config = ConnectorConfig.model_validate_json(CONFIGS[0])
    other = Pair("github", "globex")
    for pair in (PAIR, other):
        await parts.schedule.put(pair, 1, config, reset=True)
    await parts.redis.hset(keys.configs(parts.schedule.shard(PAIR), "github"), PAIR.tenant, damaged)
    found = await parts.schedule.get([PAIR, other])
    assert found[0] is None
    assert found[1] is not None
    assert found[1].config == config


async def test_a_configuration_kept_as_plain_json_is_read(parts: Parts) -> None:
    await parts.redis.hset(
        keys.configs(parts.schedule.shard(PAIR), "github"), PAIR.tenant, b"3\n" + CONFIGS[0].encode()
    )
    (found,) = await parts.schedule.get([PAIR])
    assert found is not None
    assert (found.revision, found.config) == (3, ConnectorConfig.model_validate_json(CONFIGS[0]))
