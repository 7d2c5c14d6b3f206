import ast
import json
from pathlib import Path

import pytest

from ser_core import errors
from ser_core.errors import ModelNotFound, NotReady, Overloaded, SerError, TooLarge
from service import problems

ROOT = Path(__file__).parents[2]


def all_errors(root: type[SerError] = SerError) -> list[type[SerError]]:
    return [root, *(cls for child in root.__subclasses__() for cls in all_errors(child))]


@pytest.mark.parametrize("cls", [c for c in all_errors() if c.__module__ == errors.__name__])
def test_each_error_has_a_row_and_a_listed_code(cls: type[SerError]) -> None:
    problem = problems.problem_of(cls("x"))
    assert 400 <= problem.status < 600
    assert problem.close_code in {
        *(1009, 1011, 1012, 1013),
        *(4400, 4401, 4403, 4404, 4408, 4410, 4415, 4429),
    }
    assert cls.code in problems.CODES


def test_each_code_in_the_source_is_listed_and_each_listed_code_is_used() -> None:
    """Codes are written as `code="..."`, as a class's `code`, or given to `_complain`."""
    used: set[str] = set()
    for path in [*ROOT.glob("ser_core/**/*.py"), *ROOT.glob("service/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                    used.add(code)
                case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(c))):
                    used.add(c)
                case ast.Call(
                    func=ast.Attribute(attr="_complain"), args=[ast.Constant(value=str(code)), *_]
                ):
                    used.add(code)
    warnings = {"narrowband_audio", "late", "other_tracks"}
    assert used - warnings == set(problems.CODES)


def test_a_class_without_a_row_is_told_as_its_base() -> None:
    assert problems.problem_of(ModelNotFound("x")) is problems.TABLE[errors.ModelError]


def test_the_document() -> None:
    error = TooLarge("the body is larger than 5 bytes", remedy="send less")
    response = problems.response(error, "r1")
    assert response.media_type == "application/problem+json"
    assert response.headers["X-Request-ID"] == "r1"
    assert "Retry-After" not in response.headers
    assert json.loads(bytes(response.body)) == {
        "type": "about:blank",
        "title": "Too large",
        "status": 413,
        "detail": "the body is larger than 5 bytes",
        "code": "too_large",
        "request_id": "r1",
        "remedy": "send less",
    }


def test_who_is_not_known_learns_how_to_say_who_they_are() -> None:
    response = problems.response(errors.Unauthenticated("no API key was sent"), "r")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert "Retry-After" not in response.headers


@pytest.mark.parametrize("cls", [Overloaded, NotReady])
def test_what_may_be_retried_says_when(cls: type[SerError]) -> None:
    assert problems.response(cls("x"), "r").headers["Retry-After"] == "1"


def test_a_fault_tells_nothing_of_its_inside() -> None:
    error = problems.internal_error(ValueError("/secret/path"))
    assert "/secret" not in json.dumps(problems.document(error, "r"))
