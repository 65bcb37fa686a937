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
    """One section for each operation: what it is for, its parameters, what it takes and what it answers."""
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(openapi['info']['title'])}</title><style>{_STYLE}</style>"
    body = "".join(_operations(openapi))
    info = openapi["info"]
    return (
        f"{head}<h1>{_text(info['title'])} {_text(info['version'])}</h1><p>{_text(info.get('summary', ''))}</p>"
        f"<p>For programs: <a href=openapi.json>openapi.json</a></p>{body}</html>"
    )


def _operations(openapi: dict[str, Any]) -> Iterator[str]:
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            yield f"<h3><code>{method.upper()} {_text(path)}</code></h3><p>{_text(operation.get('description') or operation.get('summary', ''))}</p>"
            yield "".join(_parameters(operation))
            yield "".join(_examples(openapi, operation))
            answers = ", ".join(f"{code} {answer['description']}" for code, answer in operation["responses"].items())
            yield f"<p>Answers: {_text(answers)}</p>"


def _parameters(operation: dict[str, Any]) -> Iterator[str]:
    for each in operation.get("parameters", ()):
        needed = ", required" if each.get("required") else ""
        yield f"<p><code>{_text(each['name'])}</code> ({_text(each['in'])}{needed}) {_text(each.get('description', ''))}</p>"


def _examples(openapi: dict[str, Any], operation: dict[str, Any]) -> Iterator[str]:
    """An example of the body, where there is one."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = content.get("schema", {})
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    shape = openapi.get("components", {}).get("schemas", {}).get(name, schema)
    examples = [content["example"]] if "example" in content else shape.get("examples", ())
    for example in examples:
        yield f"<pre>{_text(json.dumps(example, indent=2, ensure_ascii=False))}</pre>"


def _text(text: object) -> str:
    return escape(str(text))
