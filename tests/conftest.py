"""Fixtures of all tests live in one module for each real thing they start."""

pytest_plugins = [
    "tests.fixtures_firestore",
    "tests.fixtures_secrets",
    "tests.fixtures_prometheus",
    "tests.fixtures_redis",
    "tests.fixtures_replicas",
    "tests.fixtures_vendors",
    "tests.fixtures_contracts",  # after those whose fixtures it takes
]
