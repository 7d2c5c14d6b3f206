from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from service.settings import Settings
from tests.service.running import RunningServer
from tests.service.telephony.platforms import AUTH_TOKEN, SECRET


@pytest.fixture(scope="session")
def telephony_settings(settings: Settings) -> Settings:
    """One segment at a time: the last digits of a score depend on the batch."""
    secrets = {"twilio_auth_token": SecretStr(AUTH_TOKEN), "audiohook_secret": SecretStr(SECRET)}
    return settings.model_copy(update={"max_batch": 1, **secrets})


@pytest.fixture(scope="module")
def server(telephony_settings: Settings) -> Iterator[RunningServer]:
    with RunningServer(telephony_settings) as running:
        yield running
