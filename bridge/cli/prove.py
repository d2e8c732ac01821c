"""Showing that nothing is lost: ``prove``."""

from pathlib import Path

import click

from bridge.cli.group import finished, main, run_until_told
from bridge.prove import play


@main.command(short_help="Show on this machine that nothing is lost.")
@click.option(
    "--minutes", type=click.FloatRange(0.1, 24 * 60), default=5.0, show_default=True,
    help="About how long it may take; what is said last needs a little longer to arrive.",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0), help="Where chance begins; give it to repeat a proof."
)
@click.option(
    "--report", "file", type=click.Path(path_type=Path, dir_okay=False),
    default=Path("trestle-proof.md"), show_default=True, help="The file that the report goes to.",
)  # fmt: skip
def prove(minutes: float, seed: int | None, file: Path) -> None:
    """Have people talk through a scratch Trestle while it is killed, and count what came across.

    It brings its own homeserver, IRC server and database in a temporary folder; no
    installation is touched. Exits with 0 if nothing was lost, doubled or out of order, else with
    1.
    """
    code = run_until_told(lambda: play.play(minutes=minutes, seed=seed, file=file))
    raise click.exceptions.Exit(finished(code))
