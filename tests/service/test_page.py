"""The try-it page's files as they are served; `tests/browser` uses them."""

import re
from pathlib import Path

import pytest

from service import page
from tests.service.running import RunningServer

WEB = Path(page.__file__).parent / "web"
OWN = sorted(
    path.relative_to(WEB).as_posix()
    for path in WEB.rglob("*")
    if path.is_file() and "vendor" not in path.parts
)
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


def test_the_page_is_at_the_root(server: RunningServer) -> None:
    answer = server.http.get("/")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<title>glrf" in answer.text
    assert server.http.head("/").status_code == 200


@pytest.mark.parametrize("path", OWN)
def test_each_file_has_its_media_type_and_the_policy(server: RunningServer, path: str) -> None:
    answer = server.http.get(f"/web/{path}")
    assert answer.content == (WEB / path).read_bytes()
    assert answer.headers["Content-Type"].startswith(MEDIA_TYPES[Path(path).suffix])
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'"} <= set(policy)
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_file_that_is_known_is_not_sent_again(server: RunningServer) -> None:
    first = server.http.get("/web/page.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = server.http.get("/web/page.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["nothing.js", "", "sdk", "../page.py", "%2e%2e/page.py", "..%2fpage.py", "/etc/passwd"]
)
def test_nothing_else_is_served(server: RunningServer, path: str) -> None:
    answer = server.http.get(f"/web/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_all_that_a_file_names_is_there() -> None:
    for path in OWN:
        text = (WEB / path).read_text(encoding="utf-8")
        for name in re.findall(r'(?:from|import|new URL\() ?"(\.[^"]+\.js)"', text):
            assert (WEB / path).parent.joinpath(name).resolve().is_file(), (path, name)
    html = (WEB / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'(?:src|href)="(web/[^"]+)"', html)
    assert len(named) >= 4
    for name in named:
        assert (WEB.parent / name).is_file(), name


def test_no_file_reaches_for_another_host() -> None:
    for path in OWN:
        text = (WEB / path).read_text(encoding="utf-8")
        hosts = set(re.findall(r"(?:https?|wss?)://([\w.]+)", text))
        # An XML namespace, and the address in the client's own documentation.
        assert hosts <= {"www.w3.org", "127.0.0.1"}, (path, hosts)


def test_the_page_holds_no_script_or_style_of_its_own() -> None:
    html = (WEB / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", html) == []
