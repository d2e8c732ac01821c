"""Where an event or a message is: ``trestle trace``."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from bridge.cli.asking import ask_program
from bridge.cli.group import CONFIG, JSON, main, quietly, shows
from bridge.core.oversight.tracer import Tracer, steps_of
from bridge.matrix.body import parse_transaction
from bridge.model import SystemClock
from bridge.storage.items import Items
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys, EventKeys
from bridge.storage.reach import opened
from bridge.storage.traces import Traces


@main.command()
@click.argument("identifier", metavar="ID")
@CONFIG
@JSON
@shows
def trace(identifier: str, config: Path, as_json: bool) -> None:
    """Tell what became of an event or a message, and when.

    ID is a Matrix event's id ($...), or a network's id of a message.
    """

    async def alone() -> Any:
        settings = quietly(config)
        async with opened(settings.database, settings.state_dir, SystemClock()) as database:
            day_keys = DayKeys(settings.state_dir, database.clock)
            traces = Traces(
                database, Journal(database, day_keys), Items(database, day_keys),
                keys_of=EventKeys(settings.state_dir).keys_of, parse=parse_transaction,
            )  # fmt: skip
            return await steps_of(Tracer(traces), identifier)

    steps = ask_program(config, "GET", f"/trace/{quote(identifier, safe='')}", alone=alone)
    if as_json:
        click.echo(json.dumps(steps, indent=2))
        return
    for step in steps:
        at = (step["at"] or "")[:23].replace("T", " ")
        click.echo(f"{at:<23}  {step['what']:<9}  {step['detail']}".rstrip())
