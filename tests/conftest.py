"""Fixtures of all tests live in one module for each real thing they start.

Generated tests are the same at every run; ``HYPOTHESIS_PROFILE=thorough`` looks further, at random.
"""

import os

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

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

CHAOS = "tests/chaos/"

hypothesis.settings.register_profile("quick", derandomize=True, database=None, deadline=None, max_examples=50)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist ships no types
    """Of several processes, each file keeps to one, and so does all of `chaos`, whose tests share one system.

    The groups that pytest-xdist knows itself, marks of tests, have no effect under pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return CHAOS if file.startswith(CHAOS) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile:
    """Files begin in the order of their names, which has those that take longest at its beginning."""
    config.option.loadscopereorder = False
    return ByFile(config, log)
