"""The image, the compose files, Prometheus' rules and Grafana's dashboard."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.metrics import FAULTS, LIMITS, Metrics
from service.settings import PREFIX, Settings
from tests.house.repository import ROOT, read

BIN = Path(sys.executable).parent
COMPOSE = ("docker-compose.yml", "deploy/docker-compose.gpu.yml")
#: The words of a query that are Prometheus' own.
LANGUAGE = frozenset(
    {
        "and",
        "sum",
        "min",
        "max",
        "by",
        "rate",
        "increase",
        "histogram_quantile",
        "max_over_time",
        "label_values",
        "or",
        "unless",
        "offset",
    }
)


def lint(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs one of this environment's tools in the repository."""
    return subprocess.run(
        [BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, input=text
    )


def load(path: str) -> Any:
    return yaml.safe_load(read(path))


def dashboard() -> dict[str, Any]:
    return json.loads(read("deploy/grafana/dashboards/glrf.json"))


def dashboard_queries() -> list[str]:
    panels = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    variables = [variable["query"]["query"] for variable in dashboard()["templating"]["list"]]
    return panels + variables


def rules() -> list[dict[str, Any]]:
    return [
        rule for group in load("deploy/prometheus/alerts.yml")["groups"] for rule in group["rules"]
    ]


def series() -> set[str]:
    """Every series name that a scrape of the service or Prometheus itself makes."""
    metrics = Metrics()
    metrics.audio_s.labels("stream")
    text = metrics.exposition().decode()
    families = re.findall(r"^# TYPE (\w+) (\w+)", text, re.MULTILINE)
    names = {"up"}
    for name, kind in families:
        is_histogram = kind == "histogram"
        names |= (
            {f"{name}{end}" for end in ("_bucket", "_sum", "_count")} if is_histogram else {name}
        )
    return names


def named(query: str) -> set[str]:
    """The series that a query reads."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|without)\s*\([^)]*\)|, \w+\)|\"[^\"]*\"", " ", query)
    return set(re.findall(r"(?<![\w$])[a-z]\w+", bare)) - LANGUAGE


def test_hadolint_finds_nothing_in_the_dockerfile():
    result = lint("hadolint", "Dockerfile")
    assert result.returncode == 0, result.stdout


def test_hadolint_is_awake():
    assert lint("hadolint", "-", text="FROM debian:latest\n").returncode != 0


@pytest.mark.parametrize("path", COMPOSE)
def test_compose_file_is_of_the_schema(path: str):
    result = lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)
    assert result.returncode == 0, result.stdout


def test_the_compose_schema_is_awake(tmp_path: Path):
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(read("docker-compose.yml").replace("ports:", "prots:"))
    result = lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(wrong))
    assert result.returncode != 0


def test_ports_are_published_on_loopback_only():
    ports = [port for service in load(COMPOSE[0])["services"].values() for port in service["ports"]]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_files_that_compose_mounts_are_there():
    mounted = [
        volume.split(":")[0]
        for service in load(COMPOSE[0])["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert mounted
    assert all((ROOT / path).is_dir() for path in mounted)


def test_images_are_of_a_fixed_version():
    images = [service["image"] for service in load(COMPOSE[0])["services"].values()]
    assert all(re.search(r":(v?\d+\.\d+\.\d+|cpu)$", image) for image in images)


def test_settings_in_the_deploy_files_exist():
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for path in ("Dockerfile", *COMPOSE):
        assert set(re.findall(rf"\b{PREFIX}[A-Z_]+", read(path))) <= known


def test_compose_takes_secrets_from_outside():
    given = load(COMPOSE[0])["services"]["glrf"]["environment"]
    assert "GLRF_CHECKPOINT_KEYS" in given
    secrets = {n for n, field in Settings.model_fields.items() if "Secret" in str(field.annotation)}
    assert not [name for name in secrets if given.get(PREFIX + name.upper())]
    assert ".env" in read(".gitignore").split()


def test_compose_waits_longer_than_the_service_needs_to_stop():
    grace = load(COMPOSE[0])["services"]["glrf"]["stop_grace_period"]
    # The server's streams and files and its workers' chunks, at a time, and what killing takes.
    assert int(grace.removesuffix("s")) > Settings.model_fields["shutdown_s"].default + 5


def test_nobody_is_let_in_without_a_key():
    last_stage = read("Dockerfile").rpartition("\nFROM ")[2]
    file = re.search(r"GLRF_API_KEYS_FILE=(\S+)", last_stage)
    assert file is not None
    folder = str(Path(file[1]).parent)
    assert re.search(rf"--owner=glrf .*--mode=0700 {folder}", last_stage)
    assert f"keys:{folder}" in load(COMPOSE[0])["services"]["glrf"]["volumes"]
    environment = load(COMPOSE[0])["services"]["glrf"]["environment"]
    given = {name: value for name, value in environment.items() if value is not None}
    assert given == {"GLRF_METRICS_OPEN": "true"}  # the rest is passed on from outside


def test_the_image_is_not_run_by_root_and_stops_on_sigterm():
    last_stage = read("Dockerfile").rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", last_stage, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in last_stage
    assert last_stage.rstrip().endswith('CMD ["glrf", "serve"]')
    assert not re.search(r"apt-get|pip install|gcc", last_stage)


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server whose /readyz has one status; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "is_healthy"), [(200, True), (503, False)])
def test_the_health_check_follows_readyz(status: int, is_healthy: bool):
    check = re.search(r"^HEALTHCHECK .*\\\n\s+CMD (\[.*\])$", read("Dockerfile"), re.MULTILINE)
    assert check is not None
    program, *arguments = json.loads(check[1])
    assert program == "python"
    with answering(status) as port:
        # Docker hands a proxy of the host's on to containers; it knows nothing of their loopback.
        nowhere = "http://127.0.0.1:9"
        environment = {**os.environ, "GLRF_PORT": str(port), "http_proxy": nowhere, "no_proxy": ""}
        result = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True
        )
    assert (result.returncode == 0) == is_healthy, result.stderr


def test_packages_of_the_image_are_let_into_its_build():
    allowed = re.findall(r"^!(.+?)/?$", read(".dockerignore"), re.MULTILINE)
    packages = re.search(r"^packages = \[(.*?)\]", read("pyproject.toml"), re.DOTALL | re.MULTILINE)
    assert packages is not None
    for name in re.findall(r'"([\w.]+)"', packages[1]):
        folder = "clients/python" if name == "glrf_client" else name.split(".")[0]
        assert folder in allowed
    for needed in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        assert needed in allowed


@pytest.mark.parametrize("query", dashboard_queries())
def test_the_dashboard_reads_series_that_exist(query: str):
    names = named(query)
    assert names
    assert names <= series()


def test_the_dashboard_uses_every_metric():
    used = " ".join(dashboard_queries())
    assert [name for name in Metrics().names if name not in used] == []


def test_the_dashboard_is_provisioned_with_its_datasource():
    [source] = load("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    used = {panel["datasource"]["uid"] for panel in dashboard()["panels"]}
    used |= {t["datasource"]["uid"] for panel in dashboard()["panels"] for t in panel["targets"]}
    assert used == {source["uid"]}
    [provider] = load("deploy/grafana/provisioning/dashboards/glrf.yml")["providers"]
    volumes = load(COMPOSE[0])["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in volumes


def test_panels_do_not_overlap_and_have_numbers_of_their_own():
    cells: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        box = panel["gridPos"]
        area = {(box["x"] + dx, box["y"] + dy) for dx in range(box["w"]) for dy in range(box["h"])}
        assert box["x"] + box["w"] <= 24
        assert not area & cells, panel["title"]
        cells |= area
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_reads_series_that_exist_and_says_what_to_do(rule: dict[str, Any]):
    names = named(rule["expr"])
    assert names
    assert names <= series()
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "remedy"}


def test_the_alert_of_faults_knows_all_of_them():
    [rule] = [rule for rule in rules() if rule["alert"] == "GlrfFaults"]
    assert f'code=~"{"|".join(FAULTS)}"' in rule["expr"]
    exposition = Metrics().exposition().decode()
    for code in (*FAULTS, *LIMITS):
        assert f'glrf_refusals_total{{code="{code}"}} 0.0' in exposition


def test_every_alert_has_a_case_in_which_it_fires():
    tests = load("deploy/prometheus/alerts_test.yml")["tests"]
    firing = {
        case["alertname"]
        for test in tests
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert firing == {rule["alert"] for rule in rules()}


def test_prometheus_reads_the_rules_and_scrapes_the_service():
    config = load("deploy/prometheus/prometheus.yml")
    assert config["rule_files"] == ["alerts.yml"]
    [job] = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["glrf:8000"]}]
