"""How a command leaves when something goes wrong that was to be expected: a line, the next command, and status 1."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape

from shokado.lifecycle.errors import LifecycleError


@contextmanager
def plain_errors(status: int = 1) -> Iterator[None]:
    """Print an expected error and the next command instead of a traceback, and leave with that status."""
    try:
        yield
    except LifecycleError as error:
        console = Console(stderr=True, highlight=False)
        console.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        if error.next_command:
            console.print(f"  next: [bold]{escape(error.next_command)}[/]", soft_wrap=True)
        raise typer.Exit(status) from None
