"""The world that the API's tests are about."""

import pytest

from tests.fixtures_web import Api
from tests.web.world import World, furnished
from worker.demo.vendors import DemoVendors


@pytest.fixture
async def world(api: Api, script: DemoVendors) -> World:
    """The API of two tenants at the demo vendors."""
    return await furnished(api, script)
