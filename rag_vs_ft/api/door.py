"""Who may come in: known names, the token, and requests of a size and pace that the service bears."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from typing import Any

from fastapi.responses import JSONResponse
from prometheus_client import Counter

from rag_vs_ft.api.failures import plain
from rag_vs_ft.serving import Message, Receive, Send, ServerAddress, is_known

TOKEN_VARIABLE = "RAG_VS_FT_TOKEN"
MAX_BODY_BYTES = 1_000_000
BODY_SECONDS = 30.0
"""How long a client may take to send its request."""
CLIENT_GONE = 499
"""What is counted for a client that went away before its request was whole (nginx's number); nobody gets to see it."""
OPEN_TO_ALL = ("/health",)
TOO_LARGE = f"the request has over {MAX_BODY_BYTES:,} bytes"


class Door:
    """ASGI middleware: known names, the token, and bodies of a size and pace that the service bears."""

    def __init__(self, app: Callable[[Message, Receive, Send], Any], place: ServerAddress, requests: Counter) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in place.names)
        self._token = place.password.encode()
        self._requests = requests

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, whole, or refuse it; count it by route and status."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-content-type-options", b"nosniff")]}
            await send(message)

        try:
            if refusal := self._refused(scope, headers):
                await refusal(scope, receive, sending)
                return
            try:
                body = await _whole(receive)
            except (TimeoutError, ValueError) as error:
                if isinstance(error, TimeoutError):
                    refusal = plain(408, f"the request took over {BODY_SECONDS:g} s to come", "too_slow")
                else:
                    refusal = plain(413, TOO_LARGE, "too_large")
                await refusal(scope, receive, sending)
                return
            if body is None:
                status = CLIENT_GONE
                return
            await self._app(scope, _replayed(body, receive), sending)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._requests.labels(route, str(status)).inc()

    def _refused(self, scope: Message, headers: dict[str, str]) -> JSONResponse | None:
        if not is_known(headers, self._names):
            return plain(403, "this name is not one of this server's (rag-vs-ft serve --host NAME adds one)", "unknown_host")
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            return plain(413, TOO_LARGE, "too_large")
        kind, _, given = headers.get("authorization", "").partition(" ")
        if not self._token or scope["path"] in OPEN_TO_ALL:
            return None
        if kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token):
            return None
        refusal = plain(401, f"a bearer token is needed ({TOKEN_VARIABLE} of the server)", "invalid_api_key")
        refusal.headers["www-authenticate"] = "Bearer"
        return refusal


async def _whole(receive: Receive) -> bytes | None:
    """The body of a request; None when the client went away. Raises TimeoutError, and ValueError for one that is too large."""
    body = b""
    async with asyncio.timeout(BODY_SECONDS):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > MAX_BODY_BYTES:
                raise ValueError
            if not message.get("more_body"):
                return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already, and then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
