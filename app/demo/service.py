"""Acme's service in the demonstration: it answers whoever bears its credential."""

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

SECRET = "the-receipts-service-knows-acme-by-this"
_SLOW = 5  # seconds that a report takes: time to revoke


def receipts() -> Starlette:
    """The service, with what it was told in memory."""
    kept: dict[str, object] = {}

    async def write(request: Request) -> JSONResponse:
        if refusal := _stranger(request):
            return refusal
        id = f"r{len(kept) + 1}"
        kept[id] = await request.json()
        return JSONResponse({"id": id, "receipt": kept[id]}, 201)

    async def read(request: Request) -> JSONResponse:
        if refusal := _stranger(request):
            return refusal
        receipt = kept.get(request.path_params["id"])
        return JSONResponse({"receipt": receipt}, 200 if receipt is not None else 404)

    async def report(request: Request) -> JSONResponse:
        if refusal := _stranger(request):
            return refusal
        await asyncio.sleep(_SLOW)
        return JSONResponse({"report": request.path_params["id"], "receipts": len(kept)})

    return Starlette(
        routes=[
            Route("/v1/receipts", write, methods=["POST"]),
            Route("/v1/receipts/{id}", read),
            Route("/v1/reports/{id}", report),
        ]
    )


def _stranger(request: Request) -> JSONResponse | None:
    if request.headers.get("authorization") == f"Bearer {SECRET}":
        return None
    return JSONResponse({"error": "I answer Acme's gateway alone"}, 401)
