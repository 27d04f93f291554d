"""What the tests of services begin with."""

from collections.abc import AsyncIterator

import pytest

from hub.store.sqlite import SqliteStore


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    found = SqliteStore(":memory:")
    await found.open()
    yield found
    await found.close()
