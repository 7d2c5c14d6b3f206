"""What operators and load balancers ask: is it alive, is it ready, what does it serve."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from service import problems, wire
from service.clock import Clock
from service.manifest import model_card
from service.metrics import MEDIA_TYPE
from service.registry import ModelRegistry
from service.requests import NoQuery, parse_query
from service.runtime import Runtime

router = APIRouter()


@router.head("/livez", include_in_schema=False)
@router.get("/livez", tags=["operations"], summary="Is the process alive?")
async def livez() -> dict[str, str]:
    """200 while the process answers at all."""
    return {"status": "alive"}


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    tags=["operations"],
    summary="Can it serve?",
    responses=problems.described(503),
)
async def readyz(request: Request) -> dict[str, str]:
    """200 after warm-up and self-test; else 503 with a problem document that says why."""
    runtime: Runtime = request.app.state.runtime
    runtime.check_ready()
    return {"status": "ready"}


@router.get(
    "/metrics",
    tags=["operations"],
    summary="Prometheus metrics",
    response_class=PlainTextResponse,
    responses=problems.described(401, 403),
)
async def metrics(request: Request) -> Response:
    """Prometheus text format."""
    runtime: Runtime = request.app.state.runtime
    return Response(await runtime.scrape(), media_type=MEDIA_TYPE)


@router.get(
    "/v1/models",
    tags=["models"],
    summary="The models served here",
    responses=problems.described(400, 401, 403, 429, 503),
)
async def models(request: Request) -> dict[str, list[wire.ModelDetails]]:
    """Names, labels, provenance and licence, as the model files tell them."""
    runtime: Runtime = request.app.state.runtime
    parse_query(NoQuery, request.query_params.multi_items())
    return {"models": model_details(runtime.models())}


def model_details(models: ModelRegistry) -> list[wire.ModelDetails]:
    """One entry a model, the older versions first."""
    details: list[wire.ModelDetails] = []
    for backend in models:
        spec = backend.spec
        clock = Clock(spec.features.sample_rate_hz)
        details.append(
            wire.ModelDetails(
                **model_card(spec, backend.sha256).model_dump(),
                default=backend is models.default,
                license=spec.license,
                provenance=spec.provenance,
                segment_ms=clock.length_ms(spec.segments.segment_samples),
                hop_ms=clock.length_ms(spec.segments.hop_samples),
                sample_rate=spec.features.sample_rate_hz,
                device=backend.device,
                providers=backend.providers,
            )
        )
    return details
