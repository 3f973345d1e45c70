"""Fixtures shared by all tests."""

from collections.abc import Iterator

import pytest

from tests.support.nats_server import NatsServer


@pytest.fixture
def nats_server() -> Iterator[NatsServer]:
    """A nats-server of the test's own, without authentication."""
    with NatsServer() as server:
        yield server
