"""Shows the progress of something that takes long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@dataclass(slots=True)
class Steps:
    """What the steps so far have said."""

    show: Callable[[dict[str, Any]], None]
    """Takes a step: how much is ``done`` of ``total``, and its ``faults``."""
    done: int = 0
    faults: list[str] = field(default_factory=list)


@contextmanager
def showing(words: str, *, quiet: bool) -> Iterator[Steps]:
    """Show a bar while steps come, where somebody can see it."""
    console = Console(stderr=True)
    with Progress(
        TextColumn(words), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, disable=quiet or not console.is_terminal,
    ) as progress:  # fmt: skip
        bar = progress.add_task(words, total=None, visible=False)

        def show(step: dict[str, Any]) -> None:
            steps.done = step["done"]
            steps.faults.extend(step["faults"])
            progress.update(bar, completed=step["done"], total=step["total"], visible=True)

        steps = Steps(show)
        yield steps
