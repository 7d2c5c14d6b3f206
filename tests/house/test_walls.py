"""What each entrance loads when it starts; the import contracts see only who names whom."""

import os
import re
import subprocess
import sys

import pytest

from tests.house.repository import ROOT, read, tracked

HEAVY = ("torch", "librosa", "matplotlib", "sklearn", "scipy", "onnx", "av")


def loaded(statement: str, modules: tuple[str, ...]) -> set[str]:
    """Those of `modules` that a fresh interpreter has loaded after a statement."""
    program = f"import sys\n{statement}\nprint(*(set({modules!r}) & sys.modules.keys()))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_the_server_starts_without_the_training_stack():
    assert loaded("import service.server", HEAVY) == set()


def test_the_core_loads_no_engine_and_no_framework():
    statement = "import ser_core.session, ser_core.containers, ser_core.model_file"
    assert loaded(statement, (*HEAVY, "onnxruntime", "fastapi", "starlette", "uvicorn")) == set()


def test_the_command_line_loads_neither_engine_nor_server():
    assert loaded("import glrf.main", (*HEAVY, "onnxruntime", "fastapi", "uvicorn")) == set()


def test_a_server_without_jobs_starts_without_their_store():
    statement = """
from service.app import create_app
from service.loading import load_models
from service.settings import Settings
create_app(Settings(), load_models(Settings()))
"""
    assert loaded(statement, (*HEAVY, "sqlalchemy", "dbos", "httpx")) == set()


def test_a_file_is_analysed_without_what_a_server_needs():
    clip = ROOT / "glrf" / "demo" / "clip.flac"
    statement = f"""
import contextlib, os, pathlib
from glrf.analyze import analyze
with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
    analyze([pathlib.Path({str(clip)!r})])
"""
    of_servers = ("fastapi", "starlette", "uvicorn", "prometheus_client", "limits", "jwt")
    of_clients = ("httpx", "websockets", "cryptography", "sqlalchemy", "dbos")
    assert loaded(statement, (*HEAVY, *of_servers, *of_clients)) == set()


def test_the_client_loads_nothing_of_the_server():
    ours = ("ser_core", "service", "model_export", "glrf", "numpy")
    assert loaded("import glrf_client", ours) == set()


@pytest.mark.parametrize("module", ["onnxruntime", "fastapi", "sqlalchemy", "httpx"])
def test_the_probe_itself_sees_what_is_loaded(module: str):
    assert loaded(
        f"import {module}", (*HEAVY, "onnxruntime", "fastapi", "sqlalchemy", "httpx")
    ) >= {module}


_LOADS_A_MODEL = """
from service.loading import load_models
from service.settings import Settings
load_models(Settings())
"""
_RUNS_A_MODEL = """
from pathlib import Path
from model_export.onnx_model import OnnxModel
from service.settings import SHIPPED_MODELS
OnnxModel(next(SHIPPED_MODELS.glob("*.onnx")))
"""


@pytest.mark.parametrize("statement", [_LOADS_A_MODEL, _RUNS_A_MODEL])
def test_onnx_runtime_tells_nobody_of_us(tmp_path, statement: str):
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", statement], env=environment, check=True)
    # Its telemetry keeps a device's id and a queue there.
    assert list(tmp_path.rglob("*")) == []


def test_whoever_imports_onnx_runtime_has_told_it_so():
    importing = {
        path.partition("/")[0]
        for path in tracked()
        if path.endswith(".py") and re.search(r"^\s*(import|from) onnxruntime", read(path), re.M)
    }
    for package in importing - {"tests"}:
        assert '"ORT_DISABLE_TELEMETRY", "1"' in read(f"{package}/__init__.py")
