"""Servers that documents may be sent to: which addresses are this machine, and which faults may be gone at the next try."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError

AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
"""Statuses of HTTP after which another try may help."""


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """The address of a server, without a slash at its end, and whether it is another machine."""

    url: str
    remote: bool

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self.url).netloc


def server_url(url: str, *, form: str, key: str, sent: str) -> ServerUrl:
    """The server at `url`. Raises UserError for an address that cannot be used, and for another machine unless that is allowed
    (`settings.remote_allowed`).

    `form` says how an address is written, `key` names the variable that holds the server's key, and `sent` what goes there.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UserError(f"{url[:200]!r} is not an address: {error}", form) from error
    if parts.username is not None or parts.password is not None:
        raise UserError(
            "the address of a server holds a name or password, which would be written into results", f"set {key} instead"
        )
    usable = url.isprintable() and not any(sign.isspace() for sign in url)
    if not is_address(url) or not host or parts.query or parts.fragment or port == 0 or not usable:
        raise UserError(f"{url[:200]!r} is not the address of a server", form)
    elsewhere = not is_here(host)
    if elsewhere and not settings.remote_allowed():
        raise UserError(
            f"{host} is not this machine, and {sent} would be sent there",
            "give an address of this machine, or allow it: --allow-remote (or RAG_VS_FT_ALLOW_REMOTE=1)",
        )
    return ServerUrl(url.rstrip("/"), elsewhere)


def is_address(text: str) -> bool:
    """Whether a text is meant as the address of a server."""
    return text.lower().startswith(("http://", "https://"))


def is_here(host: str) -> bool:
    """Whether a host is this machine: its loopback addresses and `localhost`, no name that somebody else resolves."""
    if host.lower() == "localhost":
        return True
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def key_of(variable: str) -> str:
    """The key that an environment variable holds, "" without one. Raises UserError for what cannot be sent in a header."""
    key = os.environ.get(variable, "")
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"{variable} holds characters that no key has", "set it anew, without line breaks")
    return key


def shown(text: str, variable: str) -> str:
    """What a server said, on one line, without the key that the environment variable holds."""
    key = os.environ.get(variable, "")
    clean = text.replace(key, "***") if key else text
    return " ".join("".join(sign if sign.isprintable() else " " for sign in clean).split())[:300]
