from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from service.settings import Settings
from tests.service.running import RunningServer
from tests.service.telephony.platforms import AUTH_TOKEN, SECRET


@pytest.fixture(scope="session")
def telephony_settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"twilio_auth_token": SecretStr(AUTH_TOKEN), "audiohook_secret": SecretStr(SECRET)}
    )


@pytest.fixture(scope="module")
def server(telephony_settings: Settings) -> Iterator[RunningServer]:
    with RunningServer(telephony_settings) as running:
        running.wait_until(lambda: running.http.get("/readyz").status_code == 200)
        yield running
