"""What the OpenAPI document says beyond the routes: who may call, and what no route answers."""

from typing import Any

from fastapi import FastAPI

_SCHEME = "api_key"


def document(app: FastAPI) -> dict[str, Any]:
    """FastAPI's own, with the API key that all below `/v1` and `/metrics` may ask for.

    Without FastAPI's 422: what is wrong with a path or a query is told by 404 and 400.
    """
    found: dict[str, Any] = FastAPI.openapi(app)
    components = found.setdefault("components", {})
    components["securitySchemes"] = {
        _SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, or a token of `POST /v1/tokens`. None where the service "
            "was given no keys: it then serves its own machine only.",
        }
    }
    for name in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(name, None)
    for path, operations in found["paths"].items():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
            if path.startswith("/v1/") or path == "/metrics":
                operation["security"] = [{_SCHEME: []}, {}]
    return found
