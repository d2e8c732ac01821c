"""``trestle doctor``: all is well, or each failure a sentence with the way out."""

import asyncio
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from socket import create_server
from typing import Any

import aiohttp
import asyncpg
import pytest

from bridge.config import load
from bridge.demo.matrix_user import MatrixUser
from bridge.demo.processes import free_port
from bridge.doctor import Doctor, Finding
from bridge.matrix.registration import random_localpart, random_token
from bridge.sdk.secret import Secret
from bridge.settings import Address, DatabaseSettings, Settings
from tests.admin.commands import read_yaml, run_program
from tests.admin.conftest import Installation
from tests.rigs.cluster import Cluster
from tests.rigs.program import trestle_program
from tests.rigs.scripted_homeserver import Answer, Asked, Rule, scripted_homeserver
from tests.rigs.yaml import dump

pytestmark = pytest.mark.xdist_group("installation")

CHECKS = [
    "state_dir", "keys", "modules", "registration", "database", "clocks", "listener",
    "homeserver", "token", "accounts", "namespaces", "device_id", "ephemeral", "ping",
]  # fmt: skip
WHILE_IT_RUNS = CHECKS  # The backup is a note: none was made.


@pytest.fixture
def here(installation: Installation, folder: Path) -> Path:
    """A copy of the installation's files, to be spoilt."""
    for name in ("config.yaml", "registration.yaml"):
        shutil.copy(installation.folder / name, folder / name)
    return folder


async def examine(settings: Settings, folder: Path) -> list[Finding]:
    return await Doctor(settings, folder / "registration.yaml").examine()


async def bad(settings: Settings, folder: Path) -> dict[str, str]:
    """What is not well, by check. Each must be one line that names the way out."""
    findings = await examine(settings, folder)
    found = {finding.check: finding.sentence for finding in findings if not finding.ok}
    for sentence in found.values():
        assert "\n" not in sentence
        assert settings.appservice.as_token.reveal() not in sentence
    return found


# --- all is well ---


async def test_a_fresh_installation_is_well_before_it_ran_and_while_it_runs(
    installation: Installation, here: Path
) -> None:
    well = await asyncio.to_thread(run_program, "doctor", "-c", installation.config)
    assert well.code == 0, well.said
    lines = well.output.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("ok ")] == [
        f"{check}:" for check in CHECKS
    ]
    assert [line.split()[:2] for line in lines if not line.startswith("ok ")] == [
        ["note", "database:"], ["note", "database:"],
    ]  # fmt: skip
    assert "reaches us in" in lines[-1]
    assert "Trestle does not run" in lines[-1]

    settings = installation.settings()
    async with trestle_program(settings, here) as running, aiohttp.ClientSession() as session:
        alice = await MatrixUser(session, installation.synapse.url, "alice").register()
        room = await alice.create_room()
        await alice.invite(room, "@_trestle_dice:test.example")
        await alice.wait_until(lambda: _joined(alice, "@_trestle_dice:test.example"))
        await alice.say(room, "!flip")
        await alice.wait_until(lambda: len(alice.heard(room)) >= 2)

        findings = await examine(settings, installation.folder)
        said = {finding.check: finding.sentence for finding in findings}
        assert [f.check for f in findings if f.level == "ok"] == WHILE_IT_RUNS
        assert said["database"].endswith("the schema is up to date, the audit is whole")
        assert said["listener"] == f"the Trestle that runs listens at {settings.appservice.listen}"
        assert said["device_id"].startswith("device_id masquerading works")
        assert "does not run" not in said["ping"]
        assert running.program.exit_code is None
    assert "the homeserver answers" in running.log_text()


def _joined(person: MatrixUser, user: str) -> bool:
    return any(
        event["type"] == "m.room.member" and event["state_key"] == user
        and event["content"]["membership"] == "join"
        for event in person.events
    )  # fmt: skip


async def test_what_is_wrong_is_the_exit_code_and_machines_can_read_it(here: Path) -> None:
    document = read_yaml(here / "config.yaml")
    document["modules"]["dice"]["module"] = "dise"
    document["database"]["url"] = "postgresql://u:the-password@127.0.0.1:9/x"
    (here / "config.yaml").write_text(dump(document))
    ask = ("doctor", "-c", here / "config.yaml")
    shown = await asyncio.to_thread(run_program, *ask)
    ended = await asyncio.to_thread(run_program, *ask, "--json")
    assert (shown.code, ended.code) == (1, 1)
    assert shown.errors == ended.errors == ""
    rows = json.loads(ended.output)
    sentences = {row["check"]: row["sentence"] for row in rows if row["level"] == "bad"}
    assert sentences["modules"] == (
        "modules.dice.module: there is no module called 'dise'; did you mean dice?"
    )
    assert "the database at 127.0.0.1:9 cannot be reached: Connection" in sentences["database"]
    for check, sentence in sentences.items():
        assert f"BAD  {check}: {sentence}\n" in shown.output
    assert "the-password" not in shown.said + ended.said
    assert document["appservice"]["as_token"] not in shown.said + ended.said


# --- the database ---


async def test_a_database_that_is_down_or_elsewhere_is_named(
    installation: Installation, here: Path, cluster: Cluster
) -> None:
    good = installation.settings()

    async def said(url: str) -> str:
        found = await bad(replace(good, database=DatabaseSettings(url=url)), here)
        assert list(found) == ["database"]
        return found["database"]

    start = "database.url: the database at"
    assert await said("postgresql://u:pw@127.0.0.1:9/x") == (
        f"{start} 127.0.0.1:9 cannot be reached: Connection refused; is it running, and the "
        "address right?"
    )
    assert (await said("postgresql://u@nowhere.invalid/x")).startswith(
        f"{start} nowhere.invalid cannot be reached: "
    )
    missing = cluster.url("nobody_made_it")
    assert await said(missing) == (
        'database.url: database "nobody_made_it" does not exist; make it, or name another'
    )
    wrong = re.sub("//[^:]+:", "//stranger:", cluster.url("postgres"))
    assert (await said(wrong)).startswith("database.url: the database refuses us: ")


async def test_a_newer_schema_is_named(installation: Installation, here: Path) -> None:
    good = installation.settings()
    assert "database" not in await bad(good, here)
    connection = await asyncpg.connect(good.database.url)
    try:
        await connection.execute("INSERT INTO schema_version VALUES (9999)")
        found = await bad(good, here)
        await connection.execute("DELETE FROM schema_version WHERE version = 9999")
    finally:
        await connection.close()
    assert list(found) == ["database"]
    assert "made by a newer Trestle" in found["database"]
    assert "Install the newer version again" in found["database"]


async def test_a_state_folder_that_cannot_be_used_is_named(
    installation: Installation, here: Path
) -> None:
    (here / "file").write_text("")
    found = await bad(replace(installation.settings(), state_dir=here / "file" / "state"), here)
    assert list(found) == ["database"]
    assert found["database"].startswith(f"state_dir: {here}/file/state cannot be used: Not a dir")


# --- the homeserver ---


async def test_a_homeserver_that_is_down_or_none_is_named_once(
    installation: Installation, here: Path
) -> None:
    good = installation.settings()

    async def said(url: str) -> str:
        found = await bad(replace(good, homeserver=replace(good.homeserver, url=url)), here)
        assert list(found) == ["homeserver"]
        return found["homeserver"]

    url = f"http://127.0.0.1:{free_port()}"
    assert await said(url) == (
        "the homeserver cannot be reached: Connection refused. "
        f"Is homeserver.url ({url}) right, as this machine reaches it?"
    )
    assert "the name nowhere.invalid is not known" in await said("http://nowhere.invalid")
    elsewhere = f"{good.homeserver.url}/somewhere"
    assert await said(elsewhere) == (
        f"what answers at {elsewhere} is no Matrix homeserver; homeserver.url is the base URL of "
        "its client API"
    )


async def test_a_token_that_the_homeserver_does_not_know_is_named(
    installation: Installation, here: Path
) -> None:
    good = installation.settings()
    found = await bad(_appservice(good, as_token=Secret(random_token())), here)
    assert found == {
        "registration": "as_token in the registration is not the one in config.yaml. `trestle "
        "registration` writes it anew; then restart the homeserver",
        "token": "the homeserver does not know our as_token; name registration.yaml in its "
        "app_service_config_files, and restart it",
    }


async def test_a_name_that_the_homeserver_does_not_have_is_named(
    installation: Installation, here: Path
) -> None:
    good = installation.settings()
    found = await bad(
        replace(good, homeserver=replace(good.homeserver, server_name="tset.example")), here
    )
    assert "homeserver.server_name or appservice.sender_localpart is not what" in found["token"]
    found = await bad(_appservice(good, sender_localpart=random_localpart()), here)
    assert "appservice.sender_localpart is not what it has read" in found["token"]
    assert found["registration"].startswith("sender_localpart in the registration is ")


async def test_a_token_of_the_homeserver_that_differs_is_named_by_both(
    installation: Installation, here: Path
) -> None:
    good = installation.settings()
    found = await bad(_appservice(good, hs_tokens=(Secret(random_token()),)), here)
    assert list(found) == ["registration", "ping"]
    assert found["registration"].startswith("hs_token in the registration is not the one in con")
    assert "or the hs_token differs; compare the two files" in found["ping"]


async def test_a_listener_that_the_homeserver_cannot_reach_is_named(
    installation: Installation,
) -> None:
    settings = load(installation.far_config)
    found = await bad(settings, installation.far_config.parent)
    assert list(found) == ["ping"]
    assert found["ping"] == (
        "the homeserver cannot reach us at the registration's url; is the address right as seen "
        "from the homeserver (containers!), and no firewall in between? "
        f"(appservice.url: {settings.appservice.url})"
    )


@contextmanager
def taken_port() -> Iterator[int]:
    with closing(create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


async def test_a_listener_whose_place_is_taken_is_named(
    installation: Installation, here: Path
) -> None:
    good = installation.settings()
    with taken_port() as port:
        place = Address("127.0.0.1", port)
        found = await bad(_appservice(good, listen=place), here)
        assert list(found) == ["listener"]
        assert found["listener"] == (
            f"appservice.listen: {place} is taken by another program, or by a Trestle that runs "
            "already; choose another port"
        )
        found = await bad(replace(good, ops=replace(good.ops, listen=place)), here)
        assert found["listener"].startswith(f"ops.listen: {place} is taken by another program")
    found = await bad(_appservice(good, listen=Address("192.0.2.1", 29333)), here)
    assert found["listener"] == (
        "appservice.listen: 192.0.2.1 is no address of this machine; 127.0.0.1 and 0.0.0.0 are"
    )


def _appservice(settings: Settings, **changes: Any) -> Settings:
    return replace(settings, appservice=replace(settings.appservice, **changes))


# --- the registration ---


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"url": "http://elsewhere"}, "url in the registration is 'http://elsewhere', not 'http"),
        ({"rate_limited": True}, "rate_limited in the registration is True, not False"),
        ({"protocols": None}, "protocols is missing in the registration"),
        ({"namespaces": {}}, "the namespaces in the registration are not those of config.yaml"),
    ],
)
async def test_a_registration_that_says_something_else_is_named(
    installation: Installation, here: Path, change: Mapping[str, Any], sentence: str
) -> None:
    document = {**read_yaml(here / "registration.yaml"), **change}
    file = here / "registration.yaml"
    file.write_text(dump({key: value for key, value in document.items() if value is not None}))
    found = await bad(installation.settings(), here)
    assert list(found) == ["registration"]
    assert found["registration"].startswith(sentence)
    assert found["registration"].endswith("`trestle registration` writes it anew; then restart "
                                          "the homeserver")  # fmt: skip


async def test_a_registration_that_cannot_be_read_is_named_and_not_quoted(
    installation: Installation, here: Path
) -> None:
    settings, file = installation.settings(), here / "registration.yaml"
    file.write_text(file.read_text().replace("as_token:", "as_token: :"))
    found = await bad(settings, here)
    assert found == {"registration": f"{file}, line 4 is not YAML; `trestle registration` writes "
                                     "it anew"}  # fmt: skip
    file.write_text("nothing of the kind")
    assert (await bad(settings, here))["registration"].startswith(f"{file} is no registration")
    file.unlink()
    assert await bad(settings, here) == {
        "registration": f"{file} is not there; `trestle registration` writes it"
    }


# --- what no Synapse can be made to do ---


def forgets_devices(asked: Asked) -> Answer | None:
    """As a homeserver that has never heard of device_id masquerading."""
    if asked.parts == ("account", "whoami") and "device_id" in asked.query:
        return Answer(content={"user_id": asked.user})
    return None


def says_who(settings: Settings) -> Rule:
    sender = f"@{settings.appservice.sender_localpart}:{settings.homeserver.server_name}"

    def rule(asked: Asked) -> Answer | None:
        if asked.parts == ("account", "whoami") and not asked.user:
            return Answer(content={"user_id": sender})
        if asked.parts == ("versions",) or asked.path.endswith("/versions"):
            return Answer(content={"versions": ["v1.11"]})
        return None

    return rule


async def test_a_homeserver_without_device_ids_works_with_a_note(
    installation: Installation, here: Path
) -> None:
    async with scripted_homeserver() as homeserver:
        good = installation.settings()
        settings = replace(good, homeserver=replace(good.homeserver, url=homeserver.url))
        homeserver.rules += [forgets_devices, says_who(settings)]
        findings = {finding.check: finding for finding in await examine(settings, here)}
    assert list(findings) == CHECKS
    assert all(finding.ok for finding in findings.values())
    assert [check for check, finding in findings.items() if finding.note] == ["device_id"]
    assert findings["device_id"].sentence == (
        "this homeserver lacks device_id masquerading (MSC4326): a message may be there twice "
        "after its restart. A newer one has it, Synapse from 1.141"
    )


async def test_a_homeserver_that_is_something_else_is_named(
    installation: Installation, here: Path
) -> None:
    async with scripted_homeserver() as homeserver:
        good = installation.settings()
        settings = replace(good, homeserver=replace(good.homeserver, url=homeserver.url))
        found = await bad(settings, here)
    assert list(found) == ["homeserver"]
    assert "is no Matrix homeserver" in found["homeserver"]
