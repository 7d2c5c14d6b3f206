"""The try-it page at `/`: static files, with what a browser may do with them."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles

router = APIRouter()

_FILES = StaticFiles(directory=Path(__file__).parent / "web")

#: Everything comes from this service, and goes to it alone. `blob:` is the file that the user
#: dropped, played back.
_HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "media-src blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Asked for again each time, and answered by 304: a page and its modules are of one version.
    "Cache-Control": "no-cache",
}


@router.head("/", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """The page itself."""
    return await _file("index.html", request)


@router.head("/web/{path:path}", include_in_schema=False)
@router.get("/web/{path:path}", include_in_schema=False)
async def file(path: str, request: Request) -> Response:
    """What the page loads; starlette's 404 for any other path."""
    return await _file(path, request)


async def _file(path: str, request: Request) -> Response:
    response = await _FILES.get_response(path, request.scope)
    response.headers.update(_HEADERS)
    return response
