from typing import Any

import pytest
from schemathesis import GenerationMode

from tests.service.openapi_requests import CASES, check
from tests.service.running import RunningServer


@pytest.mark.parametrize(
    ("operation", "mode"),
    CASES,
    ids=[f"{operation.label} {mode.value}" for operation, mode in CASES],
)
def test_no_request_makes_the_server_fail(
    server: RunningServer, operation: Any, mode: GenerationMode
) -> None:
    assert check(server, operation, mode, n_examples=15).total() >= 1


def test_every_operation_is_tried() -> None:
    labels = {operation.label for operation, _ in CASES}
    assert {"POST /v1/files", "GET /v1/models", "GET /v1/sessions", "POST /v1/tokens"} <= labels
    assert ("POST /v1/files", GenerationMode.NEGATIVE) in {(o.label, mode) for o, mode in CASES}
