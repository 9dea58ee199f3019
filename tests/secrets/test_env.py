from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.connector import SecretRef
from registry.errors import SecretNotFound
from registry.ids import Pair, decoded, encoded
from registry.secrets.env import EnvSecrets

TENANT = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._:@-]{0,6}[A-Za-z0-9])?", fullmatch=True)
NAME = st.from_regex(r"[A-Za-z0-9_]{1,6}", fullmatch=True)


async def read(environ: dict[str, str], tenant: str, reference: str) -> str:
    secret = await EnvSecrets(environ).read(Pair("github", tenant), SecretRef(reference))
    return secret.get_secret_value()


async def test_a_secret_is_read_from_its_tenants_variable() -> None:
    assert await read({"CONNECTOR_SECRET_acme_3aeu__TOKEN": "s3cret"}, "acme:eu", "env://TOKEN") == "s3cret"


@pytest.mark.parametrize("environ", [{}, {"CONNECTOR_SECRET_acme__TOKEN": ""}, {"TOKEN": "x"}])
async def test_a_missing_or_empty_variable_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(SecretNotFound, match=r"set the environment variable CONNECTOR_SECRET_acme__TOKEN$"):
        await read(environ, "acme", "env://TOKEN")


async def test_a_tenant_cannot_name_the_platforms_or_anothers_variable() -> None:
    environ = {"PATH": "/bin", "CONNECTOR_SECRET_globex__TOKEN": "theirs", "CONNECTOR_SECRET_acme_eu__TOKEN": "x"}
    for reference in ("env://PATH", "env://TOKEN", "env://CONNECTOR_SECRET_globex__TOKEN", "env://eu__TOKEN"):
        with pytest.raises(SecretNotFound):
            await read(environ, "acme", reference)


@pytest.mark.parametrize("reference", ["env://", "env://A-B", "env://../X", "env://A=B", "env://" + "A" * 129])
async def test_a_name_outside_the_alphabet_is_refused(reference: str) -> None:
    with pytest.raises(SecretNotFound, match="env://NAME"):
        EnvSecrets({}).admit(Pair("github", "acme"), SecretRef(reference))


async def test_a_token_pasted_as_a_name_is_masked() -> None:
    with pytest.raises(SecretNotFound) as refused:
        await read({}, "acme", "env://ghp_abcdefgh12345678-x")
    assert "abcdefgh" not in str(refused.value)


@given(one=st.tuples(TENANT, NAME), other=st.tuples(TENANT, NAME))
async def test_no_two_tenants_share_a_variable(one: tuple[str, str], other: tuple[str, str]) -> None:
    variables = []
    for tenant, name in (one, other):
        with pytest.raises(SecretNotFound) as missing:
            await read({}, tenant, f"env://{name}")
        variables.append(re.sub(r".* ", "", str(missing.value)))
    assert (variables[0] == variables[1]) == (one == other)


@given(TENANT)
def test_an_encoded_id_has_one_spelling_and_can_be_read_back(tenant: str) -> None:
    assert decoded(encoded(tenant)) == tenant
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9]|_(?!_))*", encoded(tenant))
