"""Every answer that a test gets is held against the API's own description: its route, status, media type and fields."""

import re
from typing import Any

import httpx


def described(http: httpx.Client) -> httpx.Client:
    """The same client; an answer that the description does not know is an error of the test that got it."""
    description = http.get("/openapi.json").json()
    routes = {re.compile(re.sub(r"\{\w+\}", "[^/]+", path)): path for path in description["paths"]}

    def check(answer: httpx.Response) -> None:
        path = answer.request.url.raw_path.decode().partition("?")[0]
        known = next((route for pattern, route in routes.items() if pattern.fullmatch(path)), None)
        operation = description["paths"].get(known, {}).get(answer.request.method.lower())
        if operation is None:
            assert answer.status_code >= 400 or path == "/openapi.json", (
                f"{answer.request.method} {path} is not described"
            )
            return
        answers = operation["responses"]
        assert str(answer.status_code) in answers, (
            f"{answer.request.method} {known}: {answer.status_code} of {[*answers]}"
        )
        content = answers[str(answer.status_code)].get("content", {})
        media_type = answer.headers.get("Content-Type", "").partition(";")[0]
        assert media_type in content if content else not media_type, f"{known}: {media_type!r} of {[*content]}"
        if media_type.endswith("json"):
            answer.read()
            _check_fields(description, content[media_type]["schema"], answer.json())

    http.event_hooks["response"].append(check)
    return http


def _check_fields(description: dict[str, Any], schema: dict[str, Any], found: Any) -> None:
    shape = description["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    assert set(shape.get("required", ())) <= set(found), (shape["title"], [*found])
    assert shape.get("additionalProperties") is True or set(found) <= set(shape["properties"]), (
        shape["title"],
        [*found],
    )
