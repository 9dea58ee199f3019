"""Fixtures of all tests live in one module for each real thing they start.

Generated tests are the same at every run; ``HYPOTHESIS_PROFILE=thorough`` looks further, at random.
"""

import os

import hypothesis
import pytest

collect_ignore = ["plugins"]  # packages of their own; a test installs them and runs their tests

pytest_plugins = [
    "tests.fixtures_firestore",
    "tests.fixtures_secrets",
    "tests.fixtures_prometheus",
    "tests.fixtures_redis",
    "tests.fixtures_replicas",
    "tests.fixtures_sentinel",
    "tests.fixtures_vendors",
    "tests.fixtures_web",
    "tests.fixtures_wire",
    "tests.fixtures_contracts",  # after those whose fixtures it takes
]

hypothesis.settings.register_profile("quick", derandomize=True, database=None, deadline=None, max_examples=50)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several processes, each file keeps to one, and so does all of `chaos`, whose tests share one system."""
    for item in items:
        group = "chaos" if "chaos" in item.path.parts else "/".join(item.path.parts[-2:])
        item.add_marker(pytest.mark.xdist_group(group))
