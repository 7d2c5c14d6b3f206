"""What all tests share: those that are `async def` run on asyncio, each in a loop of its own."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
