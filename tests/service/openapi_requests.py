"""Requests made from the OpenAPI document, as it allows them and as it does not (Schemathesis).

    python -m tests.service.openapi_requests 200    # of each operation and kind

Ends with status 1 where one made the server fail.
"""

import contextlib
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from service.app import create_app
from service.openapi import document
from service.settings import Settings
from tests.service.running import RunningServer
from tests.synthetic import write_model

DOCUMENT = document(create_app(Settings(model_dir=Path("nowhere"))))
OPERATIONS = [
    found.ok()
    for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()
    if isinstance(found, Ok)
]
#: Nothing can be wrong with a request that has neither parameters nor a body.
CASES = [
    (operation, mode)
    for operation in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE
    or {"parameters", "requestBody"} & operation.definition.raw.keys()
]


def check(
    server: RunningServer, operation: Any, mode: GenerationMode, n_examples: int
) -> Counter[int]:
    """Sends so many requests; the answers by status. Fails for a 5xx or an undocumented status."""
    answers: Counter[int] = Counter()
    # What any path answers to what is no request for it is not told of each.
    expected = {*operation.definition.raw["responses"], "400", "404", "405"}

    def send(case: Any) -> None:
        response = case.call(base_url=str(server.http.base_url).rstrip("/"))
        answers[response.status_code] += 1
        assert response.status_code < 500, response.text
        assert str(response.status_code) in expected, response.text

    limits = settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=n_examples,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        phases=[Phase.generate, Phase.shrink],
    )
    limits(given(case=operation.as_strategy(generation_mode=mode))(send))()
    return answers


def main(n_examples: int) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_model(folder / "tiny.onnx")
        server = stack.enter_context(
            RunningServer(Settings(model_dir=folder, port=0, device="cpu", log_level="error"))
        )
        for operation, mode in CASES:
            answers = check(server, operation, mode, n_examples)
            print(f"{operation.label} {mode.value}: {dict(sorted(answers.items()))}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
