"""The API's description as a page: made here from its OpenAPI, with nothing in it that a browser would load or run."""

import json
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from typing import Any

_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}code,pre{background:#8882}"
    "pre{overflow:auto;padding:.5em}h3{margin:2em 0 0}"
)
STYLE_HASH = f"sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}"
"""By which a Content-Security-Policy allows the page its one style."""


def describe(openapi: dict[str, Any]) -> str:
    """One section for each operation: what it is for, its parameters, what it takes and what it answers; then what these hold."""
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(openapi['info']['title'])}</title><style>{_STYLE}</style>"
    info = openapi["info"]
    return (
        f"{head}<h1>{_text(info['title'])} {_text(info['version'])}</h1><p>{_text(info.get('summary', ''))}</p>"
        f"<p>{_text(info.get('description', ''))}</p><p>For programs: <a href=openapi.json>openapi.json</a></p>"
        f"{''.join(_operations(openapi))}<h2>Bodies</h2>{''.join(_schemas(openapi))}</html>"
    )


def _operations(openapi: dict[str, Any]) -> Iterator[str]:
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            yield f"<h3><code>{method.upper()} {_text(path)}</code></h3><p>{_text(operation.get('description') or operation.get('summary', ''))}</p>"
            yield "".join(_parameters(operation))
            yield "".join(_body(openapi, operation))
            yield "<p>Answers:</p><ul>"
            for code, answer in operation["responses"].items():
                kinds = [_kind(each.get("schema", {})) for each in answer.get("content", {}).values()]
                yield f"<li><code>{code}</code> {_text(answer['description'])} {_text(', '.join(kinds))}</li>"
            yield "</ul>"


def _parameters(operation: dict[str, Any]) -> Iterator[str]:
    for each in operation.get("parameters", ()):
        needed = ", required" if each.get("required") else ""
        yield f"<p><code>{_text(each['name'])}</code> ({_text(each['in'])}{needed}) {_text(each.get('description', ''))}</p>"


def _body(openapi: dict[str, Any], operation: dict[str, Any]) -> Iterator[str]:
    """What its body is, with an example where there is one."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if not content:
        return
    kind = _kind(content.get("schema", {}))
    yield f"<p>Body: {_text(kind)}</p>"
    shape = openapi.get("components", {}).get("schemas", {}).get(kind.removesuffix(" or null"), {})
    for example in [content["example"]] if "example" in content else shape.get("examples", ()):
        yield f"<pre>{_text(json.dumps(example, indent=2, ensure_ascii=False))}</pre>"


def _schemas(openapi: dict[str, Any]) -> Iterator[str]:
    for name, schema in openapi.get("components", {}).get("schemas", {}).items():
        yield f"<h3><code>{_text(name)}</code></h3><p>{_text(schema.get('description', ''))}</p>"
        if "properties" not in schema:
            yield f"<p>{_text(_kind(schema))}</p>"
            continue
        yield "<ul>"
        for field, shape in schema.get("properties", {}).items():
            needed = ", required" if field in schema.get("required", ()) else ""
            yield f"<li><code>{_text(field)}</code> ({_text(_kind(shape))}{needed}) {_text(shape.get('description', ''))}</li>"
        yield "</ul>"


def _kind(schema: dict[str, Any]) -> str:
    """What a schema allows, in a word or two."""
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return str(schema.get("format") or schema.get("type", "any JSON"))


def _text(text: object) -> str:
    return escape(str(text))
