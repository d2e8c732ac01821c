"""What is kept about one person: ``trestle export``, ``trestle erase``."""

import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import click

from bridge.cli.asking import ask_program
from bridge.cli.group import (
    CONFIG,
    JSON,
    a_person,
    finished,
    main,
    place_of,
    quietly,
    run_until_told,
)
from bridge.core.oversight.byhand import copy_of
from bridge.doors.control import fetch
from bridge.model import SystemClock
from bridge.sdk.errors import ConfigError, TrestleError
from bridge.sdk.ids import InstanceId, UserId
from bridge.sdk.module import Holds, Kept
from bridge.settings.records import Settings
from bridge.storage.audit import Audit
from bridge.storage.keys import DayKeys
from bridge.storage.personal import PersonalData
from bridge.storage.reach import opened
from bridge.wholefile import write_whole

_SECONDS = 600.0
"""There may be many rows, and networks to be told of many logins."""


@main.command("export")
@click.argument("person")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@CONFIG
def export_person(person: str, file: Path | None, config: Path) -> None:
    """Write all that is kept about a person into a ZIP.

    PERSON is a Matrix id. Without FILE it is data-of-NAME.zip, here. Passwords and keys are named
    in it, but not shown; nor is anything of other people. A person gets the same by saying `data`
    to the bot.
    """
    subject = a_person(person)
    place = file or Path(f"data-of-{_file_name(subject)}.zip")
    _refuse_existing(place)
    if not place.parent.is_dir():
        raise TrestleError(f"the folder {place.parent} does not exist: make it first")
    state_dir = place_of(config)

    async def work() -> bytes:
        found = await fetch(
            state_dir, "GET", f"/people/{quote(subject, safe='')}/copy", limit=_SECONDS
        )
        return found if found is not None else await _alone(quietly(config), subject)

    data = finished(run_until_told(work))
    try:
        write_whole(place, data, only_new=True)
    except FileExistsError:  # It came there while the rows were read.
        _refuse_existing(place)
        raise
    click.echo(f"{place} holds all that is kept about {subject}. It is for nobody else.")


@main.command("erase")
@click.argument("person")
@click.option("--yes", is_flag=True, help="Do not ask.")
@CONFIG
@JSON
def erase_person(person: str, config: Path, yes: bool, as_json: bool) -> None:
    """Erase what is kept about a person, and end their logins.

    PERSON is a Matrix id. This does what `forget me`, said to the bot, does: what stays is named,
    with the reason. If it is cut short, the next start completes it. Trestle must be running.
    """
    subject = a_person(person)
    if not yes:
        click.confirm(
            f"The logins and direct chats of {subject} on networks end, and their settings and "
            "credentials go for good. Go on?", abort=True,
        )  # fmt: skip
    path = f"/people/{quote(subject, safe='')}"
    done = ask_program(config, "DELETE", path, limit=_SECONDS)
    if as_json:
        click.echo(json.dumps(done, indent=2))
        return
    click.echo(f"Logins ended: {', '.join(done['logins']) or 'none'}")
    click.echo(f"Direct chats ended: {done['chats']}")
    click.echo(f"Rows erased: {done['rows']}")
    for remark in done["remarks"]:
        click.echo(remark)
    for one in done["left"]:
        how_long = one["after_erasure"] or one["how_long"]
        click.echo(f"Stays: {one['what']}: {one['number']}, {one['stays']}; kept {how_long}")


def _file_name(person: UserId) -> str:
    """The person's name and server, in characters that any file name may have."""
    return "".join(c if c.isalnum() or c in "-._" else "_" for c in person[1:])[:100]


def _refuse_existing(place: Path) -> None:
    if place.exists():
        raise TrestleError(f"{place} is there already; move it away, or name another file")


async def _alone(settings: Settings, person: UserId) -> bytes:
    """Read the database ourselves; so no Trestle may be running."""
    # All of the bridge comes with it, so it is loaded only where none runs.
    from bridge.running.roster import namespaces_of  # noqa: PLC0415

    async with opened(settings.database, settings.state_dir, SystemClock()) as database:
        day_keys = DayKeys(settings.state_dir, database.clock)
        keeps = {one: _kept_by(settings, one) for one in settings.modules}
        personal = PersonalData(
            database, day_keys, is_ours=namespaces_of(settings).is_ours, modules=lambda: keeps
        )
        return await copy_of(person, personal, Audit(database, settings.state_dir))


def _kept_by(settings: Settings, instance: InstanceId) -> Sequence[Kept]:
    """What the instance's module keeps; where the module cannot say, all of it is secret."""
    from bridge.running.roster import keeps_of  # noqa: PLC0415 - As above.

    try:
        return keeps_of(settings, instance)
    except ConfigError as error:
        click.echo(
            f"{error}\nSo it is not known which of the things that {instance} keeps are secret: "
            "the copy names them all and shows none. Mend that and export again.",
            err=True,
        )
        return (Kept(prefix="", holds=Holds.SECRET, purpose="not known", keep_for=None),)
