"""Turns what was typed into values, with messages that name the option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from phonesearch.errors import SettingsError

T = TypeVar("T")


def parsed(option: str, text: str, parse: Callable[[str], T]) -> T:
    """`text` through `parse`, or an error that names the option.

    Raises:
        SettingsError: If `parse` refuses it.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsError(f"{option}: {error}.") from error


def optional(option: str, text: str | None, parse: Callable[[str], T]) -> T | None:
    """As `parsed`; None stays None."""
    return None if text is None else parsed(option, text, parse)


def one_of(option: str, text: str, choices: tuple[T, ...]) -> T:
    """The choice that `text` names.

    Raises:
        SettingsError: If it names none; lists them all.
    """
    for choice in choices:
        if choice == text:
            return choice
    known = ", ".join(str(choice) for choice in choices)
    raise SettingsError(f"{option}: must be one of {known}, got {text!r}.")


def typed(ctx: Any) -> list[str]:
    """Names of the options that stand on the command line."""
    sources: dict[str, Any] = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
