"""The vault: what is kept comes back whole, and opens for its owner in its place only."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.sdk.errors import ConfigError, PermanentFailure, TemporaryFailure
from bridge.sdk.ids import InstanceId, LoginId, UserId
from bridge.sdk.login import LoginKind
from bridge.sdk.secret import Secret
from bridge.storage.accounts import Accounts
from bridge.storage.keys import KeyLost
from bridge.storage.masterkeys import (
    MOST_ERASED,
    VARIABLE,
    MasterKeys,
    random_master_key,
)
from bridge.storage.modulestore import InstanceStore
from bridge.storage.pool import Database
from bridge.storage.schema import Connection
from bridge.storage.vault import MOST_BYTES, Vault, to_bytes, to_secret
from tests.rigs.scale import chance, scaled
from tests.storage.everything import files_with

ALICE, BEA = UserId("@alice:hs"), UserId("@bea:hs")
NEAR, FAR = InstanceId("near"), InstanceId("far")
CANARY = b"canary-of-the-vault-9d1f"
PLAIN = b"control-of-the-vault-4ac2"
MOVES = (
    "subject = '@bea:hs'", "subject = NULL", "instance = 'far'", "record = 'other'",
    "version = version + 1", "version = 0", "key_version = key_version + 1",
    "sealed = sealed || 'x'", "sealed = ''", "sealed = overlay(sealed placing 'x' from 1)",
    "sealed = overlay(sealed placing 'x' from 20)",
)  # fmt: skip


@pytest_asyncio.fixture
async def vault(database: Database, folder: Path) -> Vault:
    return await opened(database, folder)


async def opened(database: Database, folder: Path) -> Vault:
    made = Vault(database, MasterKeys.load(folder, {}))
    await made.open()
    return made


async def faults(vault: Vault, subject: UserId | None = ALICE) -> list[str]:
    return [fault async for fault in vault.check(subject)]


# --- what is kept ---


@pytest.mark.parametrize(
    "text",
    [
        "", "plain", "with two  spaces and one at the end ", "nul \0 in the middle", "\n\r\t",
        "emoji 🔑👩‍👩‍👧", "ümlaut", "\ud800 alone", "x" * 4096, "💥" * 1024, "' OR 1=1 --",
    ],
)  # fmt: skip
async def test_a_password_comes_back_as_it_was_whatever_is_in_it(vault: Vault, text: str) -> None:
    await vault.put(ALICE, NEAR, "password", to_bytes(Secret(text)))
    found = await vault.find(ALICE, NEAR, "password")
    assert found is not None
    assert to_secret(found).reveal() == text


async def test_a_mebibyte_is_kept_for_people_and_instances_and_not_a_byte_more(
    vault: Vault,
) -> None:
    large = os.urandom(MOST_BYTES)
    for owner in (ALICE, None):
        await vault.put(owner, NEAR, "pickle", large)
        assert await vault.find(owner, NEAR, "pickle") == large
        with pytest.raises(PermanentFailure, match="at most 1048576 bytes"):
            await vault.put(owner, NEAR, "pickle", large + b"x")
        assert await vault.find(owner, NEAR, "pickle") == large


async def test_records_are_told_apart_by_owner_instance_and_name(vault: Vault) -> None:
    for number, owner in enumerate((ALICE, BEA, None)):
        for instance in (NEAR, FAR):
            for record in ("password", "token"):
                await vault.put(owner, instance, record, f"{number}{instance}{record}".encode())
    for number, owner in enumerate((ALICE, BEA, None)):
        for instance in (NEAR, FAR):
            for record in ("password", "token"):
                assert await vault.find(owner, instance, record) == (
                    f"{number}{instance}{record}".encode()
                )
    assert await vault.records_of(ALICE) == [
        (FAR, "password"), (FAR, "token"), (NEAR, "password"), (NEAR, "token")
    ]  # fmt: skip
    assert await vault.find(ALICE, NEAR, "nothing") is None
    assert await faults(vault) == await faults(vault, BEA) == await faults(vault, None) == []


async def test_a_record_is_replaced_and_deleted(vault: Vault, admin: Connection) -> None:
    await vault.put(ALICE, NEAR, "password", b"old")
    await vault.put(ALICE, NEAR, "password", b"new")
    assert await vault.find(ALICE, NEAR, "password") == b"new"
    assert await admin.fetchval("SELECT count(*) FROM vault") == 1
    assert await vault.delete(ALICE, NEAR, "password")
    assert not await vault.delete(ALICE, NEAR, "password")
    assert await vault.find(ALICE, NEAR, "password") is None
    assert not await vault.delete(None, NEAR, "password")


async def test_writers_at_the_same_time_lose_nothing(vault: Vault) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(vault.put(ALICE, NEAR, f"r{number % 10}", b"%d" % number))
            group.create_task(vault.put(None, NEAR, f"r{number % 10}", b"%d" % number))
    assert await faults(vault) == await faults(vault, None) == []
    assert len(await vault.records_of(ALICE)) == 10


async def test_what_is_kept_is_nowhere_in_clear(
    vault: Vault, database: Database, admin: Connection, folder: Path
) -> None:
    await vault.put(ALICE, NEAR, "password", CANARY)
    await vault.put(None, NEAR, "password", CANARY)
    # Not the vault's: it shows that the search would find something.
    await InstanceStore(database, NEAR).put("key", PLAIN)
    await admin.execute("CHECKPOINT")
    data = Path(await admin.fetchval("SHOW data_directory"))
    assert await files_with(PLAIN, data) != []
    for place in (data.parent, folder):
        assert await files_with(CANARY, place) == []


# --- logins ---


async def a_login(database: Database, owner: UserId | None, kind: LoginKind) -> LoginId:
    return (await Accounts(database).get_or_add_login(NEAR, kind, owner)).id


async def test_the_core_opens_what_a_login_signs_in_with_and_nothing_else(
    vault: Vault, database: Database
) -> None:
    hers = await a_login(database, ALICE, LoginKind.PERSON)
    relay = await a_login(database, None, LoginKind.RELAY)
    await vault.put(ALICE, NEAR, "password", b"hers", login=hers)
    await vault.put(ALICE, NEAR, "diary", b"her own")
    await vault.put(None, NEAR, "password", b"the relay's", login=relay)
    await vault.put(None, NEAR, "device", b"its own")
    assert await vault.secrets_of(hers) == {"password": Secret("hers")}
    assert await vault.secrets_of(relay) == {"password": Secret("the relay's")}
    assert await vault.secrets_of(LoginId(999)) == {}


async def test_a_record_that_somebody_put_into_anothers_login_is_not_used_for_it(
    vault: Vault, database: Database
) -> None:
    hers = await a_login(database, ALICE, LoginKind.PERSON)
    await vault.put(BEA, NEAR, "password", b"his", login=hers)
    await vault.put(None, NEAR, "password", b"the instance's", login=hers)
    await vault.put(ALICE, FAR, "password", b"of another network", login=hers)
    assert await vault.secrets_of(hers) == {}
    await vault.put(ALICE, NEAR, "password", b"hers", login=hers)
    assert await vault.secrets_of(hers) == {"password": Secret("hers")}


async def test_one_login_that_does_not_open_takes_down_no_other(
    vault: Vault, database: Database, admin: Connection
) -> None:
    hers = await a_login(database, ALICE, LoginKind.PERSON)
    his = await a_login(database, BEA, LoginKind.PERSON)
    await vault.put(ALICE, NEAR, "password", b"hers", login=hers)
    await vault.put(ALICE, NEAR, "other", b"whole")
    await vault.put(BEA, NEAR, "password", b"his", login=his)
    row = await admin.fetchval("SELECT id FROM vault WHERE login = $1", hers)
    await admin.execute("UPDATE vault SET sealed = 'x' WHERE id = $1", row)
    with pytest.raises(KeyLost, match=rf"row {row} of the vault \(password of near\)"):
        await vault.secrets_of(hers)
    assert await vault.secrets_of(his) == {"password": Secret("his")}
    assert await vault.find(ALICE, NEAR, "other") == b"whole"
    assert len(await faults(vault)) == 1
    await vault.put(ALICE, NEAR, "password", b"again", login=hers)
    assert await vault.secrets_of(hers) == {"password": Secret("again")}


# --- moved, changed, put back ---


@pytest.mark.parametrize("move", MOVES)
async def test_a_row_that_was_moved_or_changed_does_not_open(
    vault: Vault, admin: Connection, move: str
) -> None:
    await vault.put(ALICE, NEAR, "password", b"hers")
    await vault.put(BEA, FAR, "second", b"so that there are keys")
    await vault.put(None, NEAR, "second", b"so that there are keys")
    row = await admin.fetchval("SELECT id FROM vault WHERE record = 'password'")
    await admin.execute(f"UPDATE vault SET {move} WHERE id = $1", row)  # noqa: S608
    found = [one for who in (ALICE, BEA, None) for one in await faults(vault, who)]
    assert len(found) == 1
    assert found[0].startswith(f"row {row} of the vault")


async def test_rows_that_changed_places_do_not_open(vault: Vault, admin: Connection) -> None:
    await vault.put(ALICE, NEAR, "one", b"1")
    await vault.put(ALICE, NEAR, "two", b"2")
    await admin.execute(
        "UPDATE vault a SET sealed = b.sealed, version = b.version FROM vault b WHERE a.id <> b.id"
    )
    assert len(await faults(vault)) == 2


async def test_a_row_put_back_to_what_it_was_does_not_open(
    vault: Vault, admin: Connection
) -> None:
    await vault.put(ALICE, NEAR, "password", b"old")
    await admin.execute("CREATE TEMPORARY TABLE kept AS SELECT * FROM vault")
    await vault.put(ALICE, NEAR, "password", b"new")
    await admin.execute("UPDATE vault v SET sealed = k.sealed, version = k.version FROM kept k")
    with pytest.raises(KeyLost, match="not the newest of its kind: it was put back"):
        await vault.find(ALICE, NEAR, "password")
    await vault.delete(ALICE, NEAR, "password")
    await admin.execute("INSERT INTO vault OVERRIDING SYSTEM VALUE SELECT * FROM kept")
    with pytest.raises(KeyLost, match="put back, or removed"):
        await vault.find(ALICE, NEAR, "password")


async def test_a_key_of_another_owner_opens_nothing(vault: Vault, admin: Connection) -> None:
    await vault.put(ALICE, NEAR, "password", b"hers")
    await vault.put(BEA, NEAR, "password", b"his")
    await admin.execute(
        "UPDATE subject_key a SET wrapped = b.wrapped FROM subject_key b "
        "WHERE a.subject <> b.subject"
    )
    for who in (ALICE, BEA):
        with pytest.raises(KeyLost, match="nor can its owner's key"):
            await vault.find(who, NEAR, "password")


async def test_what_the_docs_say_is_not_found_out_is_not_before_the_master_key_changes(
    vault: Vault, admin: Connection
) -> None:
    await vault.put(ALICE, NEAR, "password", b"old")
    for table in ("vault", "subject_key"):
        await admin.execute(f"CREATE TEMPORARY TABLE kept_{table} AS TABLE {table}")
    await vault.put(ALICE, NEAR, "password", b"new")
    back = (
        "UPDATE vault v SET sealed = k.sealed, version = k.version FROM kept_vault k;"
        "UPDATE subject_key s SET wrapped = k.wrapped, key_version = k.key_version "
        "FROM kept_subject_key k"
    )
    await admin.execute(back)
    assert await vault.find(ALICE, NEAR, "password") == b"old"
    vault.master.add()
    vault.master.retire()
    again = Vault(vault._database, MasterKeys.load(vault.master.path.parents[1], {}))
    with pytest.raises(KeyLost, match="master key that is not here"):
        await again.find(ALICE, NEAR, "password")


# --- erasure ---


async def test_what_was_erased_is_gone_even_from_a_backup(
    vault: Vault, database: Database, admin: Connection, folder: Path
) -> None:
    await vault.put(ALICE, NEAR, "password", b"hers")
    await vault.put(ALICE, FAR, "password", b"hers too")
    await vault.put(BEA, NEAR, "password", b"his")
    for table in ("vault", "subject_key"):
        await admin.execute(f"CREATE TEMPORARY TABLE backup_{table} AS TABLE {table}")
    assert await vault.erase(ALICE) == 2
    assert await vault.find(ALICE, NEAR, "password") is None
    assert await vault.find(BEA, NEAR, "password") == b"his"
    assert await vault.erase(ALICE) == 0
    await admin.execute(
        "INSERT INTO subject_key SELECT * FROM backup_subject_key WHERE subject = '@alice:hs'; "
        "INSERT INTO vault OVERRIDING SYSTEM VALUE SELECT * FROM backup_vault "
        "WHERE subject = '@alice:hs'"
    )
    for one in (vault, await opened(database, folder)):
        with pytest.raises(KeyLost, match="erased, and it came back from a copy"):
            await one.find(ALICE, NEAR, "password")
    # Who had it erased may begin anew.
    await vault.put(ALICE, NEAR, "password", b"another")
    assert await vault.find(ALICE, NEAR, "password") == b"another"


def test_how_many_erased_keys_are_remembered_is_bounded(folder: Path) -> None:
    path = folder / "keys" / "erased"
    path.parent.mkdir()
    path.write_text("".join(f"{number}\n" for number in range(MOST_ERASED)))
    master = MasterKeys.load(folder, {})
    master.note_erased(b"one more")
    lines = path.read_text().splitlines()
    assert (len(lines), lines[0]) == (MOST_ERASED, "1")
    assert master.is_erased(b"one more")
    assert MasterKeys.load(folder, {}).is_erased(b"one more")


# --- the master key ---


async def test_a_master_key_is_made_once_and_for_its_owner_only(
    database: Database, folder: Path
) -> None:
    vault = await opened(database, folder)
    await vault.put(ALICE, NEAR, "password", b"hers")
    path = folder / "keys" / "master"
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    again = await opened(database, folder)
    assert path.read_bytes() == before
    assert await again.find(ALICE, NEAR, "password") == b"hers"


@pytest.mark.parametrize("owner", [ALICE, None])
async def test_without_its_master_key_the_vault_does_not_open_and_names_the_way_out(
    database: Database, folder: Path, owner: UserId | None
) -> None:
    vault = await opened(database, folder)
    await vault.put(owner, NEAR, "password", b"x")
    path = folder / "keys" / "master"
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(ConfigError, match=r"is missing: 1 people.*Put it back.*keys reset"):
        await opened(database, folder)
    assert not path.exists()
    path.write_text(random_master_key())
    with pytest.raises(ConfigError, match="is not the one that it was"):
        await opened(database, folder)
    path.write_bytes(kept)
    assert await (await opened(database, folder)).find(owner, NEAR, "password") == b"x"


async def test_a_few_keys_that_are_lost_are_told_and_hold_up_nobody(
    database: Database, folder: Path, admin: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    vault = await opened(database, folder)
    for owner in (ALICE, BEA):
        await vault.put(owner, NEAR, "password", b"x")
    await admin.execute("UPDATE subject_key SET key_version = 7 WHERE subject = '@bea:hs'")
    again = await opened(database, folder)
    assert "1 keys were sealed with a master key that is not here" in caplog.text
    assert await again.find(ALICE, NEAR, "password") == b"x"
    with pytest.raises(KeyLost, match="master key that is not here"):
        await again.find(BEA, NEAR, "password")
    await again.erase(BEA)
    await again.put(BEA, NEAR, "password", b"y")
    assert await again.find(BEA, NEAR, "password") == b"y"


@pytest.mark.parametrize("broken", ["wrapped = 'x'", "key_version = 7"])
async def test_who_signs_in_again_needs_nobody_else_when_the_own_key_does_not_open(
    vault: Vault, admin: Connection, broken: str
) -> None:
    for record in ("password", "token"):
        await vault.put(ALICE, NEAR, record, b"x")
    await vault.put(BEA, NEAR, "password", b"his")
    await vault.put(None, NEAR, "device", b"the instance's")
    await admin.execute(f"UPDATE subject_key SET {broken} WHERE subject = '@alice:hs'")  # noqa: S608
    # To be rid of a record it need not open.
    assert await vault.delete(ALICE, NEAR, "token")
    await vault.put(ALICE, FAR, "password", b"y")
    # What the lost key sealed opens for nobody, and is not there any more.
    assert await vault.records_of(ALICE) == [(FAR, "password")]
    assert await vault.find(ALICE, FAR, "password") == b"y"
    assert await faults(vault) == []
    assert await vault.find(BEA, NEAR, "password") == b"his"
    # An instance has nobody who could give it anew.
    await admin.execute(f"UPDATE instance_key SET {broken}")  # noqa: S608
    with pytest.raises(KeyLost):
        await vault.put(None, NEAR, "device", b"z")


async def test_several_records_are_exchanged_together_or_not_at_all(vault: Vault) -> None:
    await vault.exchange(ALICE, NEAR, {"account": b"a", "password": b"b", "nick": b"c"})
    for name, value in (("bad \0 name", b"y"), ("long", bytes(MOST_BYTES + 1))):
        with pytest.raises(PermanentFailure):
            await vault.exchange(ALICE, NEAR, {"account": b"x", name: value}, gone=["nick"])
    assert [await vault.find(ALICE, NEAR, one) for one in ("account", "nick")] == [b"a", b"c"]
    await vault.exchange(ALICE, NEAR, {"account": b"x"}, gone=["nick", "never there"])
    assert await vault.records_of(ALICE) == [(NEAR, "account"), (NEAR, "password")]
    assert await vault.find(ALICE, NEAR, "account") == b"x"
    assert await faults(vault) == []


async def test_whoever_has_no_copy_of_the_master_key_may_begin_anew(
    database: Database, folder: Path, admin: Connection
) -> None:
    vault = await opened(database, folder)
    await vault.put(ALICE, NEAR, "password", b"x")
    (folder / "keys" / "master").unlink()
    lost = Vault(database, MasterKeys.load(folder, {}))
    await lost.reset()
    fresh = await opened(database, folder)
    assert await fresh.find(ALICE, NEAR, "password") is None
    await fresh.put(ALICE, NEAR, "password", b"y")
    assert await fresh.find(ALICE, NEAR, "password") == b"y"


async def test_the_master_key_may_stand_in_the_environment(
    database: Database, folder: Path
) -> None:
    key = random_master_key()
    vault = Vault(database, MasterKeys.load(folder, {VARIABLE: key}))
    await vault.open()
    await vault.put(ALICE, NEAR, "password", b"x")
    assert not (folder / "keys" / "master").exists()
    both = Vault(database, MasterKeys.load(folder, {VARIABLE: f"{random_master_key()} {key}"}))
    await both.open()
    assert await both.find(ALICE, NEAR, "password") == b"x"


@pytest.mark.parametrize("text", ["", "  \n", "short", "not base64!", "AAAA", "A" * 44 + "!"])
def test_what_is_no_master_key_is_refused_and_not_quoted(folder: Path, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        MasterKeys.load(folder, {VARIABLE: text})
    (folder / "keys").mkdir(exist_ok=True)
    (folder / "keys" / "master").write_text(text)
    with pytest.raises(ConfigError) as refused_file:
        MasterKeys.load(folder, {})
    for error in (refused, refused_file):
        assert "put" in str(error.value).lower()
        assert not text.strip() or text not in str(error.value)


async def test_racing_people_with_cancelled_requests_never_open_each_others_records(
    vault: Vault, database: Database
) -> None:
    random = chance("racing vaults")
    wrong: list[str] = []
    answered = 0

    async def visit() -> None:
        nonlocal answered
        person = random.choice((ALICE, BEA))
        limit = random.choice((0.001, 0.004, 10, 10, 10))
        with contextlib.suppress(TimeoutError, TemporaryFailure):
            async with asyncio.timeout(limit):
                if random.random() < 0.3:
                    await vault.put(person, NEAR, "password", f"{person} {answered}".encode())
                found = await vault.find(person, NEAR, "password")
                if found is not None and not found.decode().startswith(f"{person} "):
                    wrong.append(f"{person} found {found.decode()}")
                answered += 1

    count = scaled(10_000)
    for _ in range(count // 20):
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(visit())
    assert wrong == await faults(vault) == await faults(vault, BEA) == []
    assert answered > count / 3
