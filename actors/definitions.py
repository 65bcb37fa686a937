"""Definitions: what the decorators return. Each knows its name and how its input and result are written, and is still callable
as the plain function it was made from."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Generic, TypeVar, get_type_hints

from perdure.schemas.events import NEVER, NULL, RetryOptions

from .errors import ValueRefused
from .limits import check_definition_name
from .values import UNANNOTATED, Codec

I_contra = TypeVar("I_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Signature:
    """How a function is called: with a context, with an input, and whether the input may be left out."""

    takes_context: bool
    takes_input: bool
    input_name: str = ""
    input_optional: bool = False


class Definition(Generic[I_contra, O_co]):
    """A named function with a signature; the codecs are made at definition, or at first use if a type is defined later."""

    kind = "function"

    def __init__(self, name: str, function: Callable[..., Any], signature: Signature) -> None:
        update_wrapper(self, function)
        self.name = name
        self.function = function
        self.signature = signature
        self.label = f"{self.kind} {name!r}"
        self._codecs: tuple[Codec, Codec] | None = None
        try:
            self._codecs = self._make_codecs()
        except NameError:
            # A type that the module defines further down: looked up again at first use.
            self._codecs = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self.label}>"

    @property
    def input_codec(self) -> Codec:
        return (self._codecs or self._resolve())[0]

    @property
    def result_codec(self) -> Codec:
        return (self._codecs or self._resolve())[1]

    def encode_input(self, value: Any) -> bytes:
        """The input as it is recorded. Raises ValueRefused."""
        if not self.signature.takes_input:
            if value is not None:
                raise ValueRefused(f"{self.label} takes no input, and got {value!r:.80}")
            return NULL
        if value is None and self.signature.input_optional:
            return NULL
        return self.input_codec.encode(value)

    def arguments(self, context: Any, data: bytes) -> tuple[Any, ...]:
        """What the function is called with. Raises ValueRefused."""
        signature = self.signature
        if not signature.takes_input or (data == NULL and signature.input_optional):
            return (context,) if signature.takes_context else ()
        value = self.input_codec.decode(data)
        return (context, value) if signature.takes_context else (value,)

    def resolve(self) -> None:
        """Look up the types that were not there at definition. Raises ValueRefused, or TypeError where values of one have no JSON."""
        if self._codecs is None:
            self._resolve()

    def _resolve(self) -> tuple[Codec, Codec]:
        try:
            self._codecs = codecs = self._make_codecs()
        except (NameError, AttributeError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueRefused(
                f"{self.label}: an annotation cannot be resolved ({reason}); define or import the type at module level, and not for "
                "type checkers alone"
            ) from error
        return codecs

    def _make_codecs(self) -> tuple[Codec, Codec]:
        hints = get_type_hints(self.function, include_extras=True)
        name = self.signature.input_name
        given = hints.get(name, UNANNOTATED) if self.signature.takes_input else None
        result = self._result_annotation(hints.get("return", UNANNOTATED))
        return Codec(given, f"{self.label}, parameter {name!r}"), Codec(result, f"{self.label}, result")

    def _result_annotation(self, annotation: Any) -> Any:
        return annotation


@dataclass(frozen=True, slots=True)
class ActivityOptions:
    """What a call of an activity uses where it says nothing itself."""

    retry: RetryOptions | None = None
    start_to_close_ms: int = NEVER
    schedule_to_close_ms: int = NEVER


def read_signature(
    function: Callable[..., Any], what: str, is_context: Callable[[inspect.Parameter, Any], bool]
) -> Signature:
    """How `function` is to be called. Raises TypeError if it takes more than a context and one input."""
    try:
        hints: Mapping[str, Any] = get_type_hints(function)
    except NameError:
        hints = {}
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        or _is_required_keyword(parameter)
    ]
    takes_context = bool(parameters) and is_context(
        parameters[0], hints.get(parameters[0].name, parameters[0].annotation)
    )
    inputs = parameters[1:] if takes_context else parameters
    if any(_is_required_keyword(parameter) for parameter in parameters) or len(inputs) > 1:
        names = ", ".join(parameter.name for parameter in inputs)
        raise TypeError(
            f"{what} takes one input besides its context, and this takes several ({names}): put them in a dataclass"
        )
    if not inputs:
        return Signature(takes_context, takes_input=False)
    optional = inputs[0].default is not inspect.Parameter.empty
    return Signature(takes_context, takes_input=True, input_name=inputs[0].name, input_optional=optional)


def _is_required_keyword(parameter: inspect.Parameter) -> bool:
    return parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty


def name_of(function: Callable[..., Any], given: str | None) -> str:
    name = given if given is not None else getattr(function, "__name__", "")
    if not name or name == "<lambda>":
        raise ValueError(f"{function!r} has no name of its own: give one with name=...")
    check_definition_name(name)
    return name
