"""What each entrance loads when it starts; the import contracts see only who names whom."""

import subprocess
import sys

import pytest

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


def test_the_client_loads_nothing_of_the_server():
    ours = ("ser_core", "service", "model_export", "glrf", "numpy")
    assert loaded("import glrf_client", ours) == set()


@pytest.mark.parametrize("module", ["onnxruntime", "fastapi"])
def test_the_probe_itself_sees_what_is_loaded(module: str):
    assert loaded(f"import {module}", (*HEAVY, "onnxruntime", "fastapi")) >= {module}
