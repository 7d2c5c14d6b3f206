"""A real server with the shipped model, and a browser whose microphone hears the demo clip."""

import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from pydantic import SecretStr

from service.settings import Settings
from tests.browser.chromium import CLIP, launched
from tests.service.running import RunningServer

TIMEOUT_MS = 60_000


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    with RunningServer(Settings(port=0, device="cpu")) as running:
        yield running


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launched(playwright, tmp_path_factory.mktemp("microphone"))
        yield browser
        browser.close()


@pytest.fixture
def guarded(browser: Browser) -> Iterator[tuple[Page, str]]:
    """The page of a server that wants a key, and the key."""
    key = "glrf_" + secrets.token_urlsafe(32)
    api_keys = SecretStr(f"kiosk:{hashlib.sha256(key.encode()).hexdigest()}")
    with RunningServer(Settings(port=0, device="cpu", api_keys=api_keys)) as server:
        page = browser.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(f"http://127.0.0.1:{server.port}/")
        yield page, key
        page.close()


@pytest.fixture
def page(browser: Browser, server: RunningServer) -> Iterator[Page]:
    """The try-it page, open; the test fails where the page logs an error or asks other hosts."""
    context = browser.new_context(accept_downloads=True, viewport={"width": 1180, "height": 1000})
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.extend(_complaint(message)))
    origin = f"http://127.0.0.1:{server.port}/"
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((origin, f"blob:{origin}"))
            else complaints.append(request.url)
        ),
    )
    page.goto(origin)
    page.wait_for_selector("#model:visible")
    yield page
    context.close()
    assert complaints == []


def _complaint(message: ConsoleMessage) -> list[str]:
    """An error that the page logs; a file that the service refused is none of its own."""
    is_refusal = message.location["url"].endswith("/v1/files")
    return [message.text] if message.type == "error" and not is_refusal else []


@pytest.fixture
def clip() -> Path:
    return CLIP
