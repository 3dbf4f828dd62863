"""The app's server: Streamlit with our settings, behind a gate that every request passes.

The gate knows under which names the server may be called, who may come in, and what a page may load. It is in front of Streamlit,
so pages, the websocket, static files, downloads and uploads are all behind it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import secrets
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Container, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rag_vs_ft.errors import UserError

PASSWORD_VARIABLE = "RAG_VS_FT_PASSWORD"
MIN_PASSWORD = 8
SWITCH_SECONDS = 0.001
"""After which a thread that computes lets another run; with Python's 5 ms a page waits that long for each message of its run."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")

OPTIONS: dict[str, Any] = {
    "server.enableCORS": True,
    "server.enableXsrfProtection": True,
    "server.enableStaticServing": False,
    "server.maxUploadSize": 50,  # MB, of dropped documents
    "server.fileWatcherType": "none",
    "server.showEmailPrompt": False,
    "server.disconnectedSessionTTL": 120,
    "server.enableAgentApi": False,
    # Messages with a log id are the app's own; tracebacks stay in the terminal.
    "client.showErrorDetails": "none",
    "client.toolbarMode": "viewer",
    "client.showErrorLinks": False,
    "browser.gatherUsageStats": False,
    "runner.magicEnabled": False,
    # A full collection took 0.46 s with models loaded, after each rerun.
    "runner.postScriptGC": False,
    # A page that leads to another one's view sets it; this is logged as if it were a fault.
    "global.disableWidgetStateDuplicationWarning": True,
    # Contrast of 4.5 (WCAG AA): captions have 60% of the text's colour, and primary buttons are written on in white.
    "theme.light.textColor": "#0f1116",
    "theme.light.primaryColor": "#0b5cad",
    "theme.dark.primaryColor": "#2b77cf",
    "theme.headingFontSizes": ["1.75rem", "1.35rem", "1.15rem", "1rem", "0.9rem", "0.9rem"],
}

# Nothing is loaded from elsewhere, whatever text a page shows. Streamlit's own code needs eval (Vega) and inline styles.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; frame-src 'self' blob: data:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)

# Streamlit adds an entry to the browser's history for each choice that goes into the address, so Back needed several presses.
# An entry is a page, a conversation, an answer or a passage; what is chosen there replaces it. Before another page Streamlit
# takes all choices out of the address: the entry that is left gets them back.
_HISTORY = b"""<script>
{
  const push = history.pushState.bind(history), replace = history.replaceState.bind(history);
  const keys = ["c", "answer", "document", "chunk"];
  const place = url => JSON.stringify([url.pathname, ...keys.map(key => url.searchParams.get(key))]);
  const within = (some, all) => [...some.searchParams].every(([key, value]) => all.searchParams.get(key) === value);
  let cleared = null;
  const change = pushes => (state, unused, address) => {
    const from = new URL(location.href), to = new URL(address ?? from, from), before = history.state;
    if (pushes && cleared && to.pathname !== from.pathname && cleared.to === from.href && Date.now() - cleared.time < 5000) {
      if (!cleared.pushed) { replace(cleared.state, "", cleared.from); push(state, unused, address); }
      else replace(state, unused, address);
      cleared = null;
      return;
    }
    const pushed = pushes && place(to) !== place(from);
    (pushed ? push : replace)(state, unused, address);
    if (to.pathname !== from.pathname) cleared = null;
    else if (cleared && cleared.to === from.href && within(to, new URL(cleared.from))) cleared.to = to.href;
    else cleared = from.search && !to.search ? {from: from.href, to: to.href, state: before, pushed, time: Date.now()} : null;
  };
  history.pushState = change(true);
  history.replaceState = change(false);
}
</script>"""

# Streamlit keeps what is typed into a text area when the focus leaves it. Escape leaves it too, so that a note is kept.
_ESCAPE = b"""<script>
addEventListener("keydown", event => {
  if (event.key === "Escape" && event.target.matches?.("[data-testid=stTextArea] textarea")) event.target.blur();
});
</script>"""

# What Streamlit's own page says before and after there is a server that could say it better.
WORDS = {
    b"<title>Streamlit</title>": b"<title>rag-vs-ft</title>" + _HISTORY + _ESCAPE,
    b"Is Streamlit still running? If you accidentally stopped Streamlit, just restart it in your terminal:": (
        b"The server of rag-vs-ft does not answer. If it was stopped, start it again in a terminal; conversations are kept:"
    ),
    b"streamlit run yourscript.py": b"rag-vs-ft app",
    b"Streamlit server is not responding. Are you connected to the internet?": b"The server of rag-vs-ft does not answer.",
}

FIRST_ELEMENTS = ("Html", "Button", "ButtonGroup", "Checkbox", "ChatInput", "Selectbox", "Slider", "TextInput")
"""Streamlit's names of the elements of the page Ask that are files of their own."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server listens and what it is called: `hosts` are further names, `base_path` what a proxy puts before pages.

    `password` opens it; `variable` is the one of the environment that holds it.
    """

    port: int = 8501
    address: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    base_path: str = ""
    password: str = ""
    variable: str = PASSWORD_VARIABLE

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65_535:
            raise UserError(f"port {self.port} is out of range", "use 1024 to 65535")
        for name in (self.address, *self.hosts):
            if not name or any(letter.isspace() or letter in "/\\@?#*" for letter in name):
                raise UserError(
                    f"{name!r} is not an address or the name of a machine", "for example 0.0.0.0, or docs.example.org"
                )
        if any(not (part.isascii() and part.replace("-", "").replace("_", "").isalnum()) for part in self.path_parts):
            raise UserError(f"base path {self.base_path!r} is not usable", "use letters, digits, '-' and '_', for example /docs")
        if self.password and len(self.password) < MIN_PASSWORD:
            raise UserError(f"{self.variable} has under {MIN_PASSWORD} characters", "choose a longer one")
        if not self.password and (self.address not in LOOPBACK or self.hosts):
            raise UserError(
                f"without {self.variable} only this machine may reach the server",
                f"set {self.variable} to a secret of {MIN_PASSWORD} characters or more, or leave --address and --host out",
            )

    @property
    def path_parts(self) -> list[str]:
        """The parts of the base path."""
        return [part for part in self.base_path.strip("/").split("/") if part] if self.base_path.strip("/") else []

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which the server answers: no DNS name of somebody else's can be made to lead a browser here."""
        own = () if self.address in ("0.0.0.0", "::") else (self.address,)
        return tuple(dict.fromkeys((*LOOPBACK, *own, *self.hosts)))


def serve(main: Path, place: ServerAddress) -> None:
    """Serve the app whose main file is `main` until the process is ended."""
    import streamlit as st
    from starlette.middleware import Middleware
    from streamlit import net_util

    # Streamlit asks a server of Amazon's for this machine's address before it refuses a foreign origin. The gate refuses it
    # first; should anything else ask, it gets no answer.
    net_util.get_external_ip = net_util.get_internal_ip = lambda: None
    send_at_once()
    sys.path.insert(0, str(main.parent))
    threading.Thread(target=lambda: import_module("ahead").get_ready(), daemon=True, name="Getting ready").start()
    sys.setswitchinterval(SWITCH_SECONDS)
    head = preloads(Path(st.__file__).parent / "static")
    app = st.App(main, middleware=[Middleware(Gate, place=place, head=head)])
    app.run(
        config={
            **OPTIONS,
            "server.port": place.port,
            "server.address": place.address,
            "server.allowedHosts": list(place.names),
            "server.baseUrlPath": "/".join(place.path_parts),
            "browser.serverAddress": place.hosts[0] if place.hosts else "localhost",
        }
    )


def send_at_once() -> None:
    """Let Streamlit's server send what it has without waiting for the answer to what it sent before.

    asyncio turns Nagle's algorithm off for sockets that say they are TCP's. Streamlit's does not say so, and each answer of a
    connection in use came 40 ms late: 110 files of a page, and what a run of a page sends. A version of Streamlit that binds
    otherwise stays as it is.
    """
    from streamlit.web.server.starlette import starlette_server

    bind = getattr(starlette_server, "_bind_socket", None)
    if bind is None:
        return

    def bind_tcp(address: str, port: int, backlog: int) -> socket.socket:
        bound = bind(address, port, backlog)
        return socket.socket(bound.family, bound.type, socket.IPPROTO_TCP, fileno=bound.detach())

    starlette_server._bind_socket = bind_tcp


def preloads(static: Path) -> bytes:
    """Links to the scripts of FIRST_ELEMENTS in Streamlit's folder of built files, for the head of its page.

    Without them a browser asks for these 46 files only when it draws the elements. Files that another version of Streamlit
    builds otherwise are left out: its page is slower, and the same.
    """
    page = (static / "index.html").read_text(encoding="utf-8")
    main = re.search(r'src="\./(static/js/index\.[^"]+)"', page)
    script = (static / main[1]).read_text(encoding="utf-8") if main else ""
    listed = re.search(r"m\.f=(\[[^]]*])", script)
    files = json.loads(listed[1]) if listed else []
    wanted: dict[str, None] = {}
    for name in FIRST_ELEMENTS if files else ():
        if parts := re.search(rf"import\(`\./{name}\.[^`]+`\),__vite__mapDeps\(\[([\d,]+)]", script):
            wanted |= dict.fromkeys(files[int(number)].removeprefix("./") for number in parts[1].split(","))
    new = [f"static/js/{file}" for file in wanted if file.endswith(".js") and file not in page]
    return "".join(f'<link rel="modulepreload" crossorigin href="./{file}">\n' for file in new).encode()


def is_known(headers: Mapping[str, str], names: Container[str]) -> bool:
    """Whether a request was sent to one of these names, by no page or one of our own.

    Another site's page can send requests to this machine, and its name can be made to lead here (DNS rebinding).
    """
    host = headers.get("host", "")
    if (urlsplit(f"//{host}").hostname or "") not in names:
        return False
    origin = headers.get("origin", "")
    # Browsers name the page's origin; a proxy may have changed the port that the server sees.
    return not origin or urlsplit(origin).netloc == host or (urlsplit(origin).hostname or "") in names


class Gate:
    """ASGI middleware: lets in requests to a known name, from our own pages, with the password if there is one.

    `head` is HTML that each page gets at the end of its head.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]], place: ServerAddress, head: bytes = b"") -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in place.names)
        self._password = place.password.encode()
        self._pass = secrets.token_urlsafe(32)
        self._cookie_path = f"/{'/'.join(place.path_parts)}"
        self._head = head
        self._scripts: dict[str, tuple[Message, bytes]] = {}
        """Streamlit's scripts by their paths, once asked for; to read one again takes twice as long as to send it."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        if not is_known(headers, self._names):
            await _refuse(scope, receive, send, 403, b"This name is not one of this server's.\n")
        elif self._password and not self._has_pass(headers):
            if not self._knows_password(headers):
                ask = [(b"www-authenticate", b'Basic realm="rag-vs-ft", charset="UTF-8"')]
                await _refuse(scope, receive, send, 401, b"A password is needed.\n", ask)
            else:
                await self._pass_on(scope, receive, send, new=True)
        else:
            await self._pass_on(scope, receive, send, new=False)

    def _has_pass(self, headers: dict[str, str]) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get("rag_vs_ft_pass")
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self._pass.encode())

    def _knows_password(self, headers: dict[str, str]) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            _, _, password = base64.b64decode(given, validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(password, self._password)

    async def _pass_on(self, scope: Message, receive: Receive, send: Send, *, new: bool) -> None:
        """Let Streamlit answer, with our headers and words; a visitor who is `new` gets the cookie that opens the websocket."""
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        ours = [(b"content-security-policy", POLICY.encode())]
        ours += [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin")]
        if new:
            about = f"rag_vs_ft_pass={self._pass}; Path={self._cookie_path}; HttpOnly; SameSite=Strict"
            ours.append((b"set-cookie", about.encode()))
        read = scope["method"] == "GET"
        if read and (kept := self._scripts.get(scope["path"])):
            await _send(*kept, ours, send)
            return
        held: list[Message] = []

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                if read and _has_words(message):
                    held.append(message)
                    return
                message = {**message, "headers": [*message["headers"], *ours]}
            elif held:
                held.append(message)
                if not message.get("more_body"):
                    start, body = self._rewritten(held)
                    if b"immutable" in dict(start["headers"]).get(b"cache-control", b""):
                        self._scripts[scope["path"]] = start, body
                    await _send(start, body, ours, send)
                return
            await send(message)

        await self._app(scope, receive, sending)

    def _rewritten(self, held: Sequence[Message]) -> tuple[Message, bytes]:
        """The start and the whole body of a page or script, with our words."""
        start, *parts = held
        body = b"".join(part.get("body", b"") for part in parts)
        for old, new in WORDS.items():
            body = body.replace(old, new)
        if b"html" in dict(start["headers"])[b"content-type"]:
            body = body.replace(b"</head>", self._head + b"</head>")
        kept = [(key, value) for key, value in start["headers"] if key != b"content-length"]
        return {**start, "headers": [*kept, (b"content-length", str(len(body)).encode())]}, body


def _has_words(start: Message) -> bool:
    """Whether a response is a page or a script, as plain text."""
    headers = dict(start["headers"])
    kind = headers.get(b"content-type", b"")
    return start["status"] == 200 and b"content-encoding" not in headers and (b"html" in kind or b"javascript" in kind)


async def _send(start: Message, body: bytes, more_headers: Sequence[tuple[bytes, bytes]], send: Send) -> None:
    await send({**start, "headers": [*start["headers"], *more_headers]})
    await send({"type": "http.response.body", "body": body})


async def _refuse(
    scope: Message, receive: Receive, send: Send, status: int, says: bytes, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})  # before it was accepted: the client sees status 403
        return
    about = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": about})
    await send({"type": "http.response.body", "body": says})
