"""Who may stream calls: the platform's signature, and the API key that it stands for."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ser_core.errors import BadParameter, SerError
from service.auth import Access
from service.keys import hashed, new_key, write_keys
from service.settings import Settings
from tests.service.running import TIMEOUT_S, RunningServer
from tests.service.telephony.platforms import (
    AUTH_TOKEN,
    SECRET,
    audiohook,
    audiohook_headers,
    connected,
    start,
    track,
    twilio_headers,
    twilio_signature,
)

SESSION = "30b0e395-84d3-4570-ac13-9a62d8f514c0"
SECRETS = {"twilio_auth_token": SecretStr(AUTH_TOKEN), "audiohook_secret": SecretStr(SECRET)}


async def refusal(server: RunningServer, path: str, headers: dict[str, str]) -> tuple[int, Any]:
    """The HTTP answer to a handshake."""
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"ws://127.0.0.1:{server.port}{path}", additional_headers=headers)
    response = caught.value.response
    return response.status_code, json.loads(response.body)


async def test_an_endpoint_without_a_secret_is_closed(settings: Settings) -> None:
    with RunningServer(settings) as server:
        for path, name in (
            ("/v1/twilio", "GLRF_TWILIO_AUTH_TOKEN"),
            ("/v1/audiohook", "GLRF_AUDIOHOOK_SECRET"),
        ):
            status, problem = await refusal(server, path, {})
            assert (status, problem["code"]) == (403, "telephony_closed")
            assert name in problem["remedy"]


@pytest.mark.parametrize(
    "headers", [{}, {"x-twilio-signature": "x"}, {"authorization": "Bearer x"}]
)
async def test_twilio_without_a_good_signature(
    server: RunningServer, headers: dict[str, str]
) -> None:
    status, problem = await refusal(server, "/v1/twilio", headers)
    assert (status, problem["code"]) == (401, "bad_signature")


async def test_another_address_is_another_signature(server: RunningServer) -> None:
    signature = twilio_signature(f"wss://127.0.0.1:{server.port}/v1/twilio")
    status, _ = await refusal(server, "/v1/twilio?roles=a,b", {"x-twilio-signature": signature})
    assert status == 401


async def test_a_bad_option_in_the_address_is_refused_before_the_upgrade(
    server: RunningServer,
) -> None:
    url = f"wss://127.0.0.1:{server.port}/v1/twilio?role=a"
    headers = {"x-twilio-signature": twilio_signature(url)}
    status, problem = await refusal(server, "/v1/twilio?role=a", headers)
    assert (status, problem["code"]) == (400, "bad_parameter")
    target = "/v1/audiohook?role=a"
    headers = audiohook_headers(f"127.0.0.1:{server.port}", SESSION, target=target)
    status, problem = await refusal(server, target, headers)
    assert (status, problem["code"]) == (400, "bad_parameter")


async def test_audiohook_without_a_good_signature(server: RunningServer) -> None:
    host = f"127.0.0.1:{server.port}"
    for headers in (
        {},
        {"x-api-key": "abc"},
        audiohook_headers(host, SESSION, secret="YWJj"),
        audiohook_headers(host, SESSION, created=1_600_000_000),
        audiohook_headers(host, SESSION) | {"audiohook-session-id": "another"},
    ):
        status, problem = await refusal(server, "/v1/audiohook", headers)
        assert (status, problem["code"]) == (401, "bad_signature")
        assert SECRET not in json.dumps(problem)


async def test_a_page_of_another_origin_may_not_call(server: RunningServer) -> None:
    headers = twilio_headers(server) | {"origin": "https://evil.example"}
    status, problem = await refusal(server, "/v1/twilio", headers)
    assert (status, problem["code"]) == (403, "origin_not_allowed")


async def test_a_signed_request_is_good_once(server: RunningServer) -> None:
    host = f"127.0.0.1:{server.port}"
    headers = audiohook_headers(host, SESSION)
    async with connect(f"ws://{host}/v1/audiohook", additional_headers=headers):
        pass
    status, problem = await refusal(server, "/v1/audiohook", headers)
    assert (status, problem["code"]) == (401, "bad_signature")
    assert "used before" in problem["detail"]


async def test_where_there_are_keys_a_signature_alone_is_not_enough(settings: Settings) -> None:
    keys = SecretStr(f"alice:{hashed('glrf_alice')}")
    changed = {"api_keys": keys, "twilio_key": "bob", **SECRETS}
    with RunningServer(settings.model_copy(update=changed)) as server:
        status, problem = await refusal(server, "/v1/twilio", twilio_headers(server))
        assert (status, problem["code"]) == (403, "telephony_closed")
        assert "GLRF_TWILIO_KEY" in problem["remedy"]
        headers = audiohook_headers(f"127.0.0.1:{server.port}", SESSION)
        status, problem = await refusal(server, "/v1/audiohook", headers)
        assert (status, problem["code"]) == (401, "unauthenticated")


def test_calls_of_twilio_that_no_key_stands_for_are_told_at_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def start_with(**changed: Any) -> Access:
        key = SecretStr(f"alice:{hashed('glrf_alice')}")
        return Access(Settings(api_keys=key, **changed))

    token = SECRETS["twilio_auth_token"]
    with pytest.raises(SerError, match="GLRF_TWILIO_AUTH_TOKEN is set") as refused:
        start_with(twilio_auth_token=token)
    assert refused.value.code == "access_misconfigured"
    assert "GLRF_TWILIO_KEY" in refused.value.remedy
    start_with(twilio_auth_token=token, twilio_key="alice")
    start_with(audiohook_secret=SECRETS["audiohook_secret"])
    Access(Settings(twilio_auth_token=token))  # without keys there is none to be named
    assert caplog.text == ""
    start_with(twilio_auth_token=token, twilio_key="alcie")
    assert "GLRF_TWILIO_KEY=alcie names no API key" in caplog.text


async def test_a_call_ends_when_its_key_is_revoked(settings: Settings, tmp_path: Path) -> None:
    key, kept = new_key("telephony")
    path = tmp_path / "keys.json"
    write_keys(path, [kept])
    changed = {"api_keys_file": path, "twilio_key": "telephony", **SECRETS}

    with RunningServer(settings.model_copy(update=changed)) as server:
        url = f"ws://127.0.0.1:{server.port}/v1/twilio"
        async with (
            asyncio.timeout(TIMEOUT_S),
            audiohook(server, api_key=key) as client,
            connect(url, additional_headers=twilio_headers(server)) as call,
        ):
            await client.open()
            await client.receive("opened")
            for frame in (connected(), start(["inbound"]), *track("inbound", bytes(1600))):
                await call.send(frame)
            write_keys(path, [])
            disconnect = await client.receive("disconnect")
            await client.close("disconnect")
            await call.wait_closed()
    assert (disconnect["parameters"]["reason"], call.close_code) == ("unauthorized", 4401)


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("GLRF_AUDIOHOOK_SECRET", "not base64!", "GLRF_AUDIOHOOK_SECRET"),
        ("GLRF_AUDIOHOOK_SECRET", "YWJj,", "GLRF_AUDIOHOOK_SECRET"),
        ("GLRF_TWILIO_URL", "https://glrf.example.com/v1/twilio", "wss://"),
        ("GLRF_AUDIOHOOK_URL", "glrf.example.com", "wss://"),
    ],
)
def test_settings_that_cannot_be_meant(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadParameter, match=named) as caught:
        Settings.from_environment()
    assert name.endswith("URL") or value not in str(caught.value)
