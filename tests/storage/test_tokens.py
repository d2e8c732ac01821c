"""Tokens, one-time links and used OpenID tokens: hashed, scoped, ending, gone at once."""

import asyncio
import base64
import contextlib
import uuid
from datetime import timedelta
from pathlib import Path

import pytest

from bridge.model import AuditAction, SystemClock
from bridge.sdk.ids import UserId
from bridge.sdk.secret import Secret
from bridge.storage.audit import Audit
from bridge.storage.pool import Database
from bridge.storage.schema import Connection
from bridge.storage.tokens import LinkRow, Links, Tokens, UsedOpenIds
from tests.rigs.cluster import Cluster
from tests.storage.conftest import TurnedClock
from tests.storage.everything import Full, put, write

ALICE, BEA = UserId("@alice:hs"), UserId("@bea:hs")


@pytest.fixture
def audit(database: Database, folder: Path) -> Audit:
    return Audit(database, folder)


async def good(tokens: Tokens, token: Secret, scope: str = "manager") -> bool:
    return await tokens.find(token.reveal(), [scope]) is not None


# --- tokens ---


async def test_a_token_is_256_random_bits_and_stored_as_a_hash_only(
    database: Database, audit: Audit, admin: Connection
) -> None:
    tokens, links = Tokens(database, audit), Links(database)
    began = SystemClock().now().timestamp() - 1.0
    made = [await tokens.issue(ALICE, "manager"), await links.make(ALICE, "manager")]
    made += [await tokens.issue(ALICE, "manager") for _ in range(20)]
    raw = [base64.urlsafe_b64decode(one.reveal() + "=") for one in made]
    assert {len(one) for one in raw} == {32}
    assert len(set(raw)) == len(raw)
    await admin.execute("CHECKPOINT")
    data = Path(await admin.fetchval("SHOW data_directory"))
    assert made[0].reveal() not in repr(made)
    words = [one.reveal().encode() for one in made] + raw
    looked_at = 0
    for path in (one for one in data.rglob("*") if one.is_file()):
        held = b""
        with contextlib.suppress(FileNotFoundError):  # The server cleans up behind itself.
            if path.stat().st_mtime < began:
                continue
            held = await asyncio.to_thread(path.read_bytes)
        looked_at += bool(held)
        assert not any(word in held for word in words), path
    assert looked_at > 3


async def test_a_token_tells_whose_it_is_and_is_good_for_its_scope_only(
    database: Database, audit: Audit
) -> None:
    tokens = Tokens(database, audit)
    hers = await tokens.issue(ALICE, "manager")
    his = await tokens.issue(BEA, "login:libera")
    row = await tokens.find(hers.reveal(), ["manager", "picker"])
    assert row is not None
    assert (row.subject, row.scope) == (ALICE, "manager")
    other = await tokens.find(his.reveal(), ["login:libera"])
    assert other is not None
    assert other.subject == BEA
    for scope in ("login:libera", "picker", "", "MANAGER", "manager%"):
        assert not await good(tokens, hers, scope), scope
    for wrong in ("", "x", hers.reveal() + "x", hers.reveal()[:-1], "\ud800", "\0", "é" * 9000):
        assert not await good(tokens, Secret(wrong)), wrong


async def test_a_token_ends_when_it_is_not_used_and_after_its_life_in_any_case(
    database: Database, audit: Audit, clock: TurnedClock
) -> None:
    tokens = Tokens(database, audit)
    used, unused = await tokens.issue(ALICE, "manager"), await tokens.issue(ALICE, "manager")
    short = await tokens.issue(ALICE, "manager", idle=timedelta(hours=1), life=timedelta(hours=2))
    for hours in (23, 46, 69):
        clock.ahead = timedelta(hours=hours)
        assert await good(tokens, used)
    assert not await good(tokens, unused)
    assert not await good(tokens, short)
    for hours in range(69, 30 * 24, 23):
        clock.ahead = timedelta(hours=hours)
        assert await good(tokens, used), hours
    clock.ahead = timedelta(days=30)
    assert not await good(tokens, used)
    assert await tokens.tokens_of(ALICE) == []


async def test_a_persons_tokens_are_listed_and_revoked_one_by_one_by_that_person(
    database: Database, audit: Audit, clock: TurnedClock
) -> None:
    tokens = Tokens(database, audit)
    first = await tokens.issue(ALICE, "manager")
    clock.ahead = timedelta(minutes=5)
    second = await tokens.issue(ALICE, "picker")
    theirs = await tokens.issue(BEA, "manager")
    rows = await tokens.tokens_of(ALICE)
    assert [row.scope for row in rows] == ["picker", "manager"]
    assert rows[0].made_at - rows[1].made_at >= timedelta(minutes=5)
    assert not await tokens.revoke(BEA, rows[1].id)
    assert not await tokens.revoke(ALICE, uuid.uuid4())
    assert await good(tokens, first)
    assert await tokens.revoke(ALICE, rows[1].id)
    assert not await good(tokens, first)
    assert await good(tokens, second, "picker")
    assert await tokens.revoke_all(ALICE) == 1
    assert await tokens.revoke_all(ALICE) == 0
    noted = [(row.actor, row.action, row.target) async for row in audit.rows()]
    assert noted == [(ALICE, AuditAction.END_SESSION, which) for which in (rows[1].name, "all")]
    assert not await good(tokens, second, "picker")
    assert await good(tokens, theirs)


async def test_who_logs_out_is_out_at_once(database: Database, audit: Audit) -> None:
    tokens, elsewhere = Tokens(database, audit), Tokens(database, audit)
    token = await tokens.issue(ALICE, "manager")
    assert await good(elsewhere, token)
    assert await tokens.log_out(token.reveal())
    assert not await good(elsewhere, token)
    assert not await tokens.log_out(token.reveal())


async def test_when_a_token_was_used_is_noted_to_the_minute(
    database: Database, audit: Audit, clock: TurnedClock
) -> None:
    tokens = Tokens(database, audit)
    token = await tokens.issue(ALICE, "manager")
    before = (await tokens.tokens_of(ALICE))[0].used_at
    clock.ahead = timedelta(seconds=30)
    await good(tokens, token)
    assert (await tokens.tokens_of(ALICE))[0].used_at == before
    clock.ahead = timedelta(minutes=3)
    await good(tokens, token)
    assert (await tokens.tokens_of(ALICE))[0].used_at >= before + timedelta(minutes=3)


# --- links ---


async def test_a_link_opens_once_for_its_person_and_purpose(database: Database) -> None:
    links = Links(database)
    link = await links.make(ALICE, "login:libera")
    assert await links.take("x" * 43) is None
    assert await links.take(link.reveal()) == LinkRow(subject=ALICE, purpose="login:libera")
    assert await links.take(link.reveal()) is None


async def test_of_many_who_open_a_link_at_once_one_succeeds(database: Database) -> None:
    links = Links(database)
    link = await links.make(ALICE, "manager")
    async with asyncio.TaskGroup() as group:
        takes = [group.create_task(links.take(link.reveal())) for _ in range(30)]
    assert [take.result() is not None for take in takes].count(True) == 1


@pytest.mark.parametrize(("minutes", "opens"), [(9.9, True), (10.1, False), (600, False)])
async def test_a_link_opens_for_ten_minutes(
    database: Database, clock: TurnedClock, minutes: float, opens: bool
) -> None:
    links = Links(database)
    link = await links.make(ALICE, "manager")
    clock.ahead = timedelta(minutes=minutes)
    assert (await links.take(link.reveal()) is not None) == opens


async def test_the_newest_link_for_a_purpose_is_the_one_that_opens(database: Database) -> None:
    links = Links(database)
    old = await links.make(ALICE, "manager")
    other, theirs = await links.make(ALICE, "login:near"), await links.make(BEA, "manager")
    new = await links.make(ALICE, "manager")
    assert await links.take(old.reveal()) is None
    for link in (other, theirs, new):
        assert await links.take(link.reveal()) is not None


# --- used OpenID tokens ---


async def test_a_used_openid_token_is_noted_once_however_many_try(
    database: Database, folder: Path, clock: TurnedClock
) -> None:
    used = UsedOpenIds(database, folder)
    until = clock.now() + timedelta(hours=1)
    async with asyncio.TaskGroup() as group:
        notes = [group.create_task(used.note(b"h" * 32, until)) for _ in range(30)]
    assert [note.result() for note in notes].count(True) == 1
    assert await used.note(b"i" * 32, until)


async def test_a_restored_backup_makes_no_used_openid_token_good_again(
    cluster: Cluster, folder: Path, clock: TurnedClock
) -> None:
    settings, file = await cluster.fresh(), folder / "backup"
    until = clock.now() + timedelta(days=30)
    async with Database.open(settings, folder, clock) as database:
        await write(Full(settings, folder, file), file, clock)
        assert await UsedOpenIds(database, folder).note(b"h" * 32, until)
    for path in (folder, folder / "elsewhere"):  # Nobody knows there.
        await put(file, settings, path, clock, force=True)
        async with Database.open(settings, path, clock) as database:
            used = UsedOpenIds(database, path)
            assert await used.note(b"h" * 32, until) == (path != folder)
            assert await used.note(b"i" * 32, until)
            assert not await used.note(b"i" * 32, until)


async def test_beside_the_database_used_openid_tokens_are_known_for_a_day(
    database: Database, folder: Path, clock: TurnedClock
) -> None:
    used, until = UsedOpenIds(database, folder), clock.now() + timedelta(days=30)
    for hours in (0, 1, 26):
        clock.ahead = timedelta(hours=hours)
        assert await used.note(bytes([hours]) * 32, until)
        assert not await used.note(bytes(32), until)
    assert len((folder / "keys/used-openids").read_text().split()) == 3


async def test_damaged_notes_of_used_openid_tokens_keep_nothing_from_starting(
    database: Database, folder: Path, clock: TurnedClock
) -> None:
    until, file = clock.now() + timedelta(days=30), folder / "keys/used-openids"
    assert await UsedOpenIds(database, folder).note(b"h" * 32, until)
    file.write_bytes(b"\xff")
    used = UsedOpenIds(database, folder)
    assert not await used.note(b"h" * 32, until), "the database has it"
    assert await used.note(b"i" * 32, until)
    assert not await UsedOpenIds(database, folder).note(b"i" * 32, until)


async def test_what_was_made_while_the_clock_was_ahead_is_good_for_no_longer_once_it_is_right(
    database: Database, audit: Audit, clock: TurnedClock
) -> None:
    tokens, links = Tokens(database, audit), Links(database)
    clock.ahead = timedelta(days=40)
    token, link = await tokens.issue(ALICE, "manager"), await links.make(ALICE, "manager")
    assert await good(tokens, token)
    clock.ahead = timedelta()
    assert not await good(tokens, token)
    assert await links.take(link.reveal()) is None
    # A small step is none.
    token, link = await tokens.issue(ALICE, "manager"), await links.make(ALICE, "manager")
    clock.ahead -= timedelta(minutes=4)
    assert await good(tokens, token)
    assert await links.take(link.reveal()) == LinkRow(subject=ALICE, purpose="manager")


async def test_a_token_outlives_a_clock_that_is_behind_for_a_while(
    database: Database, audit: Audit, clock: TurnedClock
) -> None:
    tokens = Tokens(database, audit)
    clock.ahead = timedelta(days=3)
    token = await tokens.issue(ALICE, "manager")
    clock.ahead = timedelta()
    assert not await good(tokens, token)
    clock.ahead = timedelta(days=3, hours=1)
    assert await good(tokens, token)
