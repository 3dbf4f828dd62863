"""The list of routes as a page without scripts: nothing is loaded from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any


def page(specification: dict[str, Any]) -> str:
    """The specification as a page without scripts: nothing is loaded from elsewhere."""
    schemas = specification.get("components", {}).get("schemas", {})
    parts = []
    for path, methods in specification["paths"].items():
        for method, about in methods.items():
            wanted = about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            name = wanted.get("$ref", "").rpartition("/")[2]
            fields = _fields(schemas[name]) if name in schemas else ""
            head = f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(about.get('description', ''))}</p>"
            parts.append(head + fields)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>rag-vs-ft: the service</title>'
        '<meta name="viewport" content="width=device-width">'
        "<style>body{font:16px/1.5 system-ui;max-width:52rem;margin:2rem auto;padding:0 1rem}"
        "td,th{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}h2{margin-top:2rem}</style>"
        "<h1>rag-vs-ft: the service</h1>"
        '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>' + "".join(parts) + "</html>"
    )


def _fields(schema: dict[str, Any]) -> str:
    needed = set(schema.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_kind(about))}</td>"
        f"<td>{'needed' if name in needed else escape(json.dumps(about.get('default')))}</td>"
        f"<td>{escape(about.get('description', ''))}</td></tr>"
        for name, about in schema.get("properties", {}).items()
    )
    return f"<table><tr><th>field</th><th>kind</th><th>default</th><th></th></tr>{rows}</table>"


def _kind(about: dict[str, Any]) -> str:
    if "enum" in about or "const" in about:
        return ", ".join(map(str, about.get("enum", [about.get("const")])))
    if "anyOf" in about:
        return " or ".join(dict.fromkeys(_kind(part) for part in about["anyOf"]))
    return str(about.get("type") or about.get("$ref", "").rpartition("/")[2])
