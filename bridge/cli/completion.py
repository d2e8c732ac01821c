"""``trestle completion``: the tab key in bash, zsh and fish."""

import click
from click.shell_completion import get_completion_class

from bridge.cli.group import main, shows


@main.command(short_help="Print a script: the tab key completes commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@shows
def completion(shell: str) -> None:
    """Print a script for that shell, with which the tab key completes our commands.

    For example: `trestle completion bash > ~/.local/share/bash-completion/completions/trestle`.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows all three.
    click.echo(kind(main, {}, "trestle", "_TRESTLE_COMPLETE").source())
