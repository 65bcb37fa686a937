"""What FastAPI cannot know of the routes: problems and their media type, who needs the token, names for generated clients."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from .models import ProblemModel
from .problems import MEDIA_TYPE

Answers = dict[int | str, dict[str, Any]]
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_PROBLEM = {"$ref": "#/components/schemas/ProblemModel"}
_REFUSALS = {
    400: "The request is none.",
    401: "It wants the API's token.",
    403: "It comes from another site's page, or from elsewhere than loopback where no token is set.",
    404: "There is no such instance.",
    409: "The id is taken, or the instance has ended, or has not ended.",
    413: "More than a payload, or a body, may have.",
    415: "The body is no application/json.",
    422: "It cannot be done as it stands; nothing was.",
    500: "It failed inside; the server's log says how.",
    503: "Nobody answered in time, or the hub cannot be used now. A request with an Idempotency-Key is safe to repeat.",
}
_EVERYWHERE = (400, 401, 403, 413, 500)
_WHO_MAY = (
    "With a token (PERDURE_TOKEN, or `token` in perdure.toml) every request but /healthz and /readyz states it as "
    "`Authorization: Bearer TOKEN`. Without one only loopback is answered. Pages of other sites are refused in any case. "
    "What is wrong is told as application/problem+json (RFC 9457), whose `type` ends with the error's code."
)


def problems(*statuses: int) -> Answers:
    """The answers of a route that say no: these, and those that any route may give."""
    answers: Answers = {}
    for status in sorted({*statuses, *_EVERYWHERE}):
        answers[status] = {"model": ProblemModel, "description": _REFUSALS[status]}
        if status == 503:
            answers[status]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return answers


class DescribedApi(FastAPI):
    """An API whose description is complete. `token`: requests need one."""

    def __init__(self, *, token: bool, **options: Any) -> None:
        super().__init__(description=_WHO_MAY, generate_unique_id_function=_name_of, **options)
        self._needs_token = token

    def openapi(self) -> dict[str, Any]:
        fresh = self.openapi_schema is None
        description = super().openapi()
        if fresh:
            self._complete(description)
        return description

    def _complete(self, description: dict[str, Any]) -> None:
        description["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        if self._needs_token:
            description["security"] = [{"token": []}]
        for path, operations in description["paths"].items():
            for operation in operations.values():
                if path in OPEN_PATHS:
                    operation["security"] = []
                answers = operation["responses"]
                operation["responses"] = {code: _with_problem(answers[code]) for code in sorted(answers)}


def _with_problem(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer whose problem, if it may be one, has its own media type."""
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    kinds = schema.get("anyOf", [schema])
    if _PROBLEM not in kinds:
        return answer
    content = {MEDIA_TYPE: {"schema": _PROBLEM}}
    for other in kinds:
        if other != _PROBLEM:
            content["application/json"] = {"schema": other}
    return answer | {"content": content}


def _name_of(route: APIRoute) -> str:
    return route.name
