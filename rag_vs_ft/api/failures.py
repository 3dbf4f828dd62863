"""What goes wrong, in the shape of OpenAI's errors. No traceback leaves the server."""

from __future__ import annotations

import logging
import secrets
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from rag_vs_ft import files
from rag_vs_ft.errors import Busy, CheckFailed, UserError
from rag_vs_ft.index.qdrant import Unreachable
from rag_vs_ft.shelf import NotServed, TooMany

AGAIN_SECONDS = 5
"""After which a client that was sent away may ask again."""

_LOG = logging.getLogger("rag_vs_ft.api")

_STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (NotServed, 404, "not_found"),
    (TooMany, 429, "rate_limit_exceeded"),
    (Busy, 503, "busy"),
    (Unreachable, 503, "index_unreachable"),
    (CheckFailed, 500, "damaged"),
    (UserError, 400, "invalid_request"),
)
"""What goes wrong -> status and code, the first that fits."""


def told(error: Exception) -> tuple[int, dict[str, Any]]:
    """Status and OpenAI's error object; what nobody expected is logged under an id that is told."""
    if isinstance(error, OSError) and not isinstance(error, UserError):
        error = files.unusable(error)
    for kind, status, code in _STATUS:
        if isinstance(error, kind) and isinstance(error, UserError):
            family = "invalid_request_error" if status < 500 and status != 429 else "server_error"
            return status, {"message": str(error).replace("\n ", ";"), "type": family, "param": None, "code": code}
    log_id = secrets.token_hex(4)
    _LOG.error("[%s] a request failed", log_id, exc_info=error)
    message = f"the request failed ({type(error).__name__}); the terminal of the server has the details under {log_id}"
    return 500, {"message": message, "type": "server_error", "param": None, "code": "internal_error"}


def _refusal(status: int, error: dict[str, Any]) -> JSONResponse:
    again = {"retry-after": str(AGAIN_SECONDS)} if status in (429, 503) else {}
    return JSONResponse({"error": error}, status, headers=again)


def add_to(app: FastAPI) -> None:
    """Let the routes of `app` answer with these errors."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the body"
        message = f"{where}: {first['msg']}"
        return _refusal(400, {"message": message, "type": "invalid_request_error", "param": where, "code": first["type"]})

    @app.exception_handler(HTTPException)
    async def not_found(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{error.detail} ({request.method} {request.url.path}); /docs lists what there is"
        return plain(error.status_code, message, "no_route")

    async def failed(request: Request, error: Exception) -> JSONResponse:
        return _refusal(*told(error))

    for kind in (UserError, OSError, Exception):
        app.add_exception_handler(kind, failed)


def plain(status: int, message: str, code: str) -> JSONResponse:
    """A refusal that no exception stands for."""
    return _refusal(status, {"message": message, "type": "invalid_request_error", "param": None, "code": code})
