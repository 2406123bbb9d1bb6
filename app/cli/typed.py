"""What is typed wrong, said in one line: Typer's own texts take several, and pydantic makes those of the values."""

import re
import sys
from collections.abc import Callable
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from app.cli.saying import fail
from app.rules.permissions import Role


def whole_number(most: int) -> Callable[[object], int]:
    """Reads a number from 0 to `most`."""

    def read(given: object) -> int:
        text = str(given)
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > most:
            raise typer.BadParameter(f"{text!r} is no whole number from 0 to {most}")
        return int(text)

    return read


def role(given: object) -> Role:
    """Reads a role, in capitals or not."""
    text = str(given)
    try:
        return Role(text.upper())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no role: give one of {', '.join(Role)}") from None


def run(cli: typer.Typer) -> None:
    """Runs what was typed. Where that is wrong, it ends with code 2 and one line that says where help is."""
    try:
        code = cli(prog_name="crossgrant", standalone_mode=False)
    except TyperException as wrong:
        _refuse(wrong)
    sys.exit(code)


def _refuse(wrong: TyperException) -> NoReturn:
    # Typer's own way to tell it apart. Help has been printed, unless it is asked to do so without its boxes.
    if type(wrong).__name__ == "NoArgsIsHelpError":
        typer.echo(wrong.format_message(), err=True)
        sys.exit(2)
    context = getattr(wrong, "ctx", None)
    command = context.command_path if context else "crossgrant"
    said = " ".join(wrong.format_message().split()).rstrip(".")
    fail(f"{said} (see `{command} --help`)")
