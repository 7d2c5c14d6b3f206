import contextlib
import json
import re
import threading
from pathlib import Path

import httpx
import pytest

from ser_core.features import Float32
from service.metrics import Metrics
from service.registry import ModelRegistry
from service.settings import Settings
from tests.service.running import GatedBackend, RunningServer, wav
from tests.synthetic import voice, write_model


def test_models(server: RunningServer) -> None:
    (model,) = server.http.get("/v1/models").json()["models"]
    assert model["name"] == "tiny"
    assert model["default"]
    assert (model["segment_ms"], model["hop_ms"], model["sample_rate"]) == (2000, 400, 16_000)
    assert model["license"] == "CC0-1.0"
    assert model["provenance"]["training_data"]
    assert (model["device"], model["providers"]) == ("cpu", ["CPUExecutionProvider"])


def test_alive_and_ready(server: RunningServer) -> None:
    assert server.http.get("/livez").json() == {"status": "alive"}
    assert server.http.get("/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (lambda folder: None, "model_not_found"),
        (lambda folder: (folder / "m.onnx").write_bytes(b"no model"), "model_corrupt"),
        (lambda folder: write_model(folder / "m.onnx", seed=0) and _break(folder), "model_corrupt"),
    ],
)
def test_alive_but_not_ready_says_why(
    settings: Settings, tmp_path: Path, write: object, code: str
) -> None:
    write(tmp_path)  # type: ignore[operator]
    with RunningServer(settings.model_copy(update={"model_dir": tmp_path}), ready=False) as server:
        server.wait_until(lambda: server.http.get("/readyz").json()["code"] != "not_ready")
        answer = server.http.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, code)
        assert answer.json()["remedy"]
        assert server.http.get("/livez").status_code == 200
        refused = server.http.post("/v1/files", content=wav(voice(16_000)))
        assert (refused.status_code, refused.json()["code"]) == (503, code)
        assert server.metric("glrf_ready") == 0


def test_a_network_that_stands_still_makes_it_unready(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("service.runtime.STUCK_S", 0.3)
    monkeypatch.setattr("service.inference.batcher._JOIN_S", 0.3)
    backend = GatedBackend()
    hasty = settings.model_copy(update={"shutdown_s": 0.5})
    with RunningServer(hasty, ModelRegistry([backend])) as server:
        assert server.http.get("/readyz").status_code == 200
        posts = [threading.Thread(target=_post, args=(server,)) for _ in range(2)]
        for post in posts:
            post.start()
        server.wait_until(lambda: server.http.get("/readyz").status_code == 503)
        # The batch began before what waits for it: that it runs so long may be seen first.
        waited = "no segment was scored for"
        server.wait_until(lambda: waited in server.http.get("/readyz").json()["detail"])
        assert server.metric("glrf_ready") == 0
        assert server.metric("glrf_oldest_wait_seconds") > 0.3
        refused = server.http.post("/v1/files", content=wav(voice(16_000)))
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        server.begin_stop()
        for post in posts:
            post.join()
    # and it ended nevertheless
    assert "does not come back from its device" in caplog.text
    backend.gate.set()


def test_a_network_that_fails_each_time_makes_it_unready_until_it_answers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would draw all new streams, which end as soon as they have begun."""

    class Mendable(GatedBackend):
        def score(self, features: Float32) -> Float32:
            if not self.gate.is_set():
                raise RuntimeError("an illegal memory access was encountered")
            return super().score(features)

    monkeypatch.setattr("service.runtime.FAILING_S", 0.02)
    monkeypatch.setattr("service.inference.batcher.PROBE_S", 0.01)
    backend = Mendable()
    with RunningServer(settings, ModelRegistry([backend])) as server:
        assert server.http.post("/v1/files", content=wav(voice(48_000))).status_code == 500
        server.wait_until(lambda: server.http.get("/readyz").status_code == 503)
        assert "failed on each batch" in server.http.get("/readyz").json()["detail"]
        assert server.metric("glrf_ready") == 0
        refused = server.http.post("/v1/files", content=wav(voice(16_000)))
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        backend.gate.set()
        server.wait_until(lambda: server.http.get("/readyz").status_code == 200)
        assert server.http.post("/v1/files", content=wav(voice(48_000))).status_code == 200


def _post(server: RunningServer) -> None:
    with contextlib.suppress(httpx.HTTPError):
        server.http.post("/v1/files", content=wav(voice(48_000)))


def _break(folder: Path) -> None:
    path = folder / "m.onnx"
    path.write_bytes(path.read_bytes()[:1000])


def test_unknown_paths_methods_and_parameters(server: RunningServer) -> None:
    for method, path, status, code in (
        ("GET", "/v2/files", 404, "not_found"),
        ("GET", "/v1/files", 405, "method_not_allowed"),
        ("GET", "/v1/models?all=1", 400, "bad_parameter"),
        ("POST", "/v1/files?partial=true&partial=false", 400, "bad_parameter"),
    ):
        answer = server.http.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/files", "POST"),
        ("/v1/jobs", "GET, POST"),
        (f"/v1/jobs/{'0' * 32}", "DELETE, GET"),
        ("/livez", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    server: RunningServer, path: str, allowed: str
) -> None:
    answer = server.http.put(path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert ", ".join(sorted(answer.headers["Allow"].split(", "))) == allowed


def test_probes_by_head(server: RunningServer) -> None:
    for path in ("/livez", "/readyz"):
        answer = server.http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_the_stream_without_an_upgrade(server: RunningServer) -> None:
    answer = server.http.get("/v1/stream")
    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")
    assert answer.headers["Upgrade"] == "websocket"
    assert "WebSocket" in answer.json()["detail"]


def test_a_slash_too_many_is_no_path(server: RunningServer) -> None:
    answer = server.http.get("/v1/models/")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_the_document_says_who_may_call_and_what_is_answered(server: RunningServer) -> None:
    document = server.http.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["api_key"]["scheme"] == "bearer"
    operations = {
        path: operation
        for path, methods in document["paths"].items()
        for operation in methods.values()
    }
    guarded = {path for path, operation in operations.items() if "security" in operation}
    assert guarded == {path for path in operations if path.startswith(("/v1/", "/metrics"))}
    assert "HTTPValidationError" not in json.dumps(document)
    assert "text/plain" in operations["/metrics"]["responses"]["200"]["content"]
    (smoothing,) = (p for p in operations["/v1/files"]["parameters"] if p["name"] == "smoothing")
    assert smoothing["schema"]["enum"] == ["mean", "ema", "viterbi"]


def test_documentation_is_served(server: RunningServer) -> None:
    paths = server.http.get("/openapi.json").json()["paths"]
    assert {"/v1/files", "/v1/models", "/v1/tokens", "/livez", "/readyz", "/metrics"} <= set(paths)
    parameters = {p["name"] for p in paths["/v1/files"]["post"]["parameters"]}
    told = {"smoothing", "hysteresis", "min_dwell_ms", "baseline_ms", "rules"}
    cut = {"endpointing", "endpoint_silence_ms", "partial"}
    assert parameters == {"roles", "model"} | cut | told
    responses = paths["/v1/files"]["post"]["responses"]
    refusals = ("400", "401", "403", "408", "413", "415", "422", "429", "503")
    assert set(responses) == {"200", *refusals}
    for status in set(responses) - {"200"}:
        schema = responses[status]["content"]["application/problem+json"]["schema"]
        assert {"code", "remedy", "request_id"} <= set(schema["required"])
    page = server.http.get("/docs")
    assert page.status_code == 200
    # Nothing of it comes from another host.
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(sources) >= 2
    for source in sources:
        assert server.http.get(source).status_code == 200, source
    assert "https://" not in page.text


def test_metrics(server: RunningServer) -> None:
    server.http.post("/v1/files", content=wav(voice(32_000)))
    answer = server.http.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    told = set(re.findall(r"^# TYPE (glrf_\w+)", answer.text, re.MULTILINE))
    assert told == set(server.runtime.metrics.names)
    assert 'glrf_http_requests_total{method="POST",route="/v1/files",status="200"}' in answer.text
    assert "glrf_model_info{" in answer.text
    assert "process_resident_memory_bytes" in answer.text


def test_paths_of_the_clients_making_are_no_labels(server: RunningServer) -> None:
    server.http.get("/some/invented/path")
    server.http.request("INVENTED", "/livez")
    assert "invented" not in server.http.get("/metrics").text.lower()
    assert server.metric("glrf_http_requests_total", route="/livez", method="other", status="405")


def test_two_apps_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.refused("overloaded")
    assert other.registry.get_sample_value("glrf_refusals_total", {"code": "overloaded"}) == 0
