"""Misconfigurations in the files: settings, registration, state directory, modules."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from bridge.model import SystemClock
from bridge.storage.files import write_private
from bridge.storage.keys import DayKeys, EventKeys
from tests.admin.commands import read_yaml
from tests.admin.estate import HERE, NOWHERE, Bench, Case, Rows
from tests.admin.wrong_database import holding, of_schema, our_roles
from tests.rigs.ngircd import run_ngircd
from tests.rigs.yaml import dump

FILES = Rows()
row = FILES.row

# --- what the start itself refuses ---


@row("settings", "everybody on this machine can read", "it holds secrets; run `chmod 600")
async def settings_that_everybody_can_read(bench: Bench) -> AsyncIterator[Path]:
    file = bench.lay_out("good").config
    file.chmod(0o644)
    yield file


@row("settings", "appservice.as_token_file", "token cannot be read: No such file")
async def a_token_file_that_is_not_there(bench: Bench) -> AsyncIterator[Path]:
    yield bench.change_config(appservice={"as_token": None, "as_token_file": "token"})


@row("settings", "everybody on this machine can read", "token; run `chmod 600")
async def a_token_file_that_everybody_can_read(bench: Bench) -> AsyncIterator[Path]:
    (bench.folder / "token").write_text("a-token-of-enough-letters")
    (bench.folder / "token").chmod(0o644)
    yield bench.change_config(appservice={"as_token": None, "as_token_file": "token"})


@row("settings", "appservice.as_token: must differ from hs_token")
async def one_token_for_both(bench: Bench) -> AsyncIterator[Path]:
    token = read_yaml(bench.lay_out("good").config)["appservice"]["hs_token"]
    yield bench.change_config(appservice={"as_token": token})


@row("settings", "appservice.hs_token: is a placeholder; put your own value here")
async def a_placeholder_left_in_place(bench: Bench) -> AsyncIterator[Path]:
    yield bench.change_config(appservice={"hs_token": "CHANGE ME"})


@row("settings", "homeserver.ulr: there is no such key; did you mean url?")
async def a_key_with_a_slip_of_the_pen(bench: Bench) -> AsyncIterator[Path]:
    yield bench.change_config(homeserver={"url": None, "ulr": "http://127.0.0.1:8008"})


@row("settings", "is no server name; it is what stands behind the colon", "without https://")
async def a_server_name_that_is_a_url(bench: Bench) -> AsyncIterator[Path]:
    yield bench.change_config(homeserver={"server_name": "https://test.example"})


@row("settings", "database.url: must be `embedded` or begin with postgresql://")
async def a_database_of_another_kind(bench: Bench) -> AsyncIterator[Path]:
    yield bench.change_config(database={"url": "mysql://trestle@127.0.0.1/trestle"})


@row("settings", "'29333' is no address; write host:port")
async def a_listener_without_a_host(bench: Bench) -> AsyncIterator[Path]:
    yield bench.change_config(appservice={"listen": "29333"})


@row("settings", "line 3 is not YAML")
async def a_file_that_is_not_yaml(bench: Bench) -> AsyncIterator[Path]:
    file = bench.lay_out("good").config
    file.write_text("homeserver:\n  url: x\n url: : y\n")
    yield file


# --- modules ---


@row("modules", "modules.libera.module: there is no module called 'icr'; did you mean irc?")
async def an_unknown_module(bench: Bench) -> AsyncIterator[Case]:
    settings = bench.module("dice").settings
    modules = {key: replace(one, module="icr") for key, one in settings.modules.items()}
    yield bench.case(replace(settings, modules=modules))


@row("modules", "modules.libera.nick: '9 lives' is no IRC nick", "no digit or hyphen first")
async def a_bad_option_of_a_module(bench: Bench) -> AsyncIterator[Case]:
    settings = bench.module("irc", servers=[{"host": "127.0.0.1"}]).settings
    options = {"servers": [{"host": "127.0.0.1"}], "nick": "9 lives"}
    modules = {key: replace(one, options=options) for key, one in settings.modules.items()}
    yield bench.case(replace(settings, modules=modules))


@row("modules", "none is switched on; name some under `modules:`", level="note")
async def no_module_at_all(bench: Bench) -> AsyncIterator[Case]:
    yield bench.case(replace(bench.settings(), modules={}))


@row("networks", f"libera: {NOWHERE}:6697 cannot be reached", "Look at `servers`")
async def an_irc_server_with_an_unknown_name(bench: Bench) -> AsyncIterator[Case]:
    yield bench.module("irc", servers=[{"host": NOWHERE}])


@row(
    "networks",
    "libera: 127.0.0.1:9 cannot be reached: Connection refused",
    "Look at `servers`: host, port, and whether",
)
async def an_irc_server_that_is_not_there(bench: Bench) -> AsyncIterator[Case]:
    yield bench.module("irc", servers=[{"host": "127.0.0.1", "port": 9}])


@row("networks", "did not answer within 1 seconds", "whether it is the one for tls")
async def an_irc_server_without_tls(bench: Bench) -> AsyncIterator[Case]:
    async with run_ngircd() as server:
        place = {"host": "127.0.0.1", "port": server.port}
        yield bench.module("irc", servers=[place], connect_seconds=1)


@row("networks", "certificate of 127.0.0.1:", "is not trusted", "name its issuer with ca_file")
async def an_irc_server_whose_certificate_is_not_trusted(bench: Bench) -> AsyncIterator[Case]:
    async with run_ngircd() as server:
        yield bench.module("irc", servers=[{"host": "127.0.0.1", "port": server.tls_port}])


@row("networks", "libera: 127.0.0.1:9 cannot be reached", level="note")
async def one_of_two_irc_servers_that_is_away(bench: Bench) -> AsyncIterator[Case]:
    async with run_ngircd() as server:
        there = {"host": "127.0.0.1", "port": server.port, "tls": False}
        yield bench.module("irc", servers=[{"host": "127.0.0.1", "port": 9}, there])


@row("networks", "is not checked: anybody in between can read and change", level="note")
async def an_irc_server_whose_certificate_nobody_looks_at(bench: Bench) -> AsyncIterator[Case]:
    async with run_ngircd() as server:
        place = {"host": "127.0.0.1", "port": server.tls_port, "tls_verify": False}
        yield bench.module("irc", servers=[place])


@row("networks", "libera: those who run", "see nobody to turn to", "Set `contact`", level="note")
async def an_irc_network_of_others_that_knows_no_contact(bench: Bench) -> AsyncIterator[Case]:
    async with run_ngircd() as server:
        place = {"host": "127.0.0.1", "port": server.port, "tls": False}
        yield bench.module("irc", servers=[place])


# --- the registration ---

ANEW = "`trestle registration` writes it anew"


@row("registration", "registration.yaml is not there; `trestle registration` writes it")
async def no_registration(bench: Bench) -> AsyncIterator[Case]:
    case = bench.case(bench.settings())
    case.registration.unlink()
    yield case


@row("registration", "registration.yaml, line 4 is not YAML", ANEW)
async def a_registration_that_is_not_yaml(bench: Bench) -> AsyncIterator[Case]:
    case = bench.case(bench.settings())
    file = case.registration
    file.write_text(file.read_text().replace("as_token:", "as_token: :"))
    yield case


@row("registration", "everybody on this machine can read", "chmod 640")
async def a_registration_that_everybody_can_read(bench: Bench) -> AsyncIterator[Case]:
    case = bench.case(bench.settings())
    case.registration.chmod(0o644)
    yield case


@row("registration", "as_token and hs_token of config.yaml are swapped in the registration", ANEW,
     also=("token",))  # fmt: skip
async def swapped_tokens(bench: Bench) -> AsyncIterator[Case]:
    appservice = bench.settings().appservice
    yield bench.appservice(as_token=appservice.hs_tokens[0], hs_tokens=(appservice.as_token,))


@row("registration", "url in the registration is 'http://127.0.0.1:1', not", ANEW)
async def a_wrong_url_in_the_registration(bench: Bench) -> AsyncIterator[Case]:
    yield change_registration(bench, url="http://127.0.0.1:1")


@row("registration", "rate_limited in the registration is True, not False", ANEW)
async def a_registration_that_is_rate_limited(bench: Bench) -> AsyncIterator[Case]:
    yield change_registration(bench, rate_limited=True)


@row("registration", "the namespaces in the registration are not those of config.yaml", ANEW)
async def a_registration_without_namespaces(bench: Bench) -> AsyncIterator[Case]:
    yield change_registration(bench, namespaces={"users": [], "aliases": [], "rooms": []})


@row("registration", "receive_ephemeral is missing in the registration", ANEW)
async def a_registration_of_an_older_version(bench: Bench) -> AsyncIterator[Case]:
    yield change_registration(bench, receive_ephemeral=None)


def change_registration(bench: Bench, **changes: object) -> Case:
    """The good one's registration with other values; None removes one."""
    case = bench.case(bench.settings())
    document = {**read_yaml(case.registration), **changes}
    kept = {key: value for key, value in document.items() if value is not None}
    case.registration.write_text(dump(kept))
    return case


# --- the state directory ---


@row("state_dir", "cannot be used", "is no folder; it must be a folder that this user may write")
async def a_state_folder_that_is_a_file(bench: Bench) -> AsyncIterator[Case]:
    (bench.folder / "file").write_text("")
    yield bench.case(replace(bench.settings(), state_dir=bench.folder / "file"))


@row("state_dir", "has 0 MB left: events cannot be stored. Make room", also=("database",))
async def a_full_disk(bench: Bench) -> AsyncIterator[Case]:
    nothing_left = replace(HERE, free_bytes=lambda folder: 0)
    yield bench.case(bench.settings(), surroundings=nothing_left)


@row("state_dir", "has only 500 MB left; make room soon", level="note")
async def a_disk_that_is_nearly_full(bench: Bench) -> AsyncIterator[Case]:
    little_left = replace(HERE, free_bytes=lambda folder: 500 * 1024 * 1024)
    yield bench.case(bench.settings(), surroundings=little_left)


@row("state_dir", "others may write to", "run `chmod go-w")
async def a_state_folder_that_others_may_write_to(bench: Bench) -> AsyncIterator[Case]:
    case = with_keys(bench)
    case.settings.state_dir.chmod(0o777)
    yield case


@row("keys", "users other than its owner can reach", "event-ids; run `chmod 600")
async def a_key_that_others_can_read(bench: Bench) -> AsyncIterator[Case]:
    case = with_keys(bench)
    (case.settings.state_dir / "keys" / "event-ids").chmod(0o644)
    yield case


@row("keys", "event-ids cannot be read by its owner; run `chmod 600")
async def a_key_that_cannot_be_read(bench: Bench) -> AsyncIterator[Case]:
    case = with_keys(bench)
    (case.settings.state_dir / "keys" / "event-ids").chmod(0)
    yield case


@row("keys", "keys; run `chmod 700")
async def a_folder_of_keys_that_others_can_enter(bench: Bench) -> AsyncIterator[Case]:
    case = with_keys(bench)
    (case.settings.state_dir / "keys").chmod(0o755)
    yield case


@row("keys", "is damaged: it should hold 32 bytes and has 5; put it back from a backup")
async def a_damaged_key(bench: Bench) -> AsyncIterator[Case]:
    case = with_keys(bench)
    (case.settings.state_dir / "keys" / "event-ids").write_bytes(b"short")
    yield case


@row("database", "is not as Trestle made it", '"audit" does not exist; restore a backup')
async def a_database_that_lacks_a_table(bench: Bench) -> AsyncIterator[Case]:
    async with beside_a_schema(bench) as case:
        yield case


@row("database", "audit.head is damaged", "put it back from a backup")
async def a_damaged_head_of_the_audit(bench: Bench) -> AsyncIterator[Case]:
    async with beside_a_schema(bench) as case:
        (case.settings.state_dir / "audit.head").write_text("half")
        yield case


@asynccontextmanager
async def beside_a_schema(bench: Bench) -> AsyncIterator[Case]:
    """A state directory that knows an audit, beside a database that has the schema's number."""
    case = with_keys(bench)
    write_private(case.settings.state_dir / "keys" / "audit", bytes(32))
    database = await bench.estate.cluster.fresh()
    async with our_roles(bench), holding(database, of_schema(1)):
        yield replace(case, settings=replace(case.settings, database=database))


@row("state_dir", "this check itself failed (RuntimeError); please report it")
async def a_fault_of_the_doctor_itself(bench: Bench) -> AsyncIterator[Case]:
    def never_foreseen(folder: Path) -> int:
        raise RuntimeError(bench.settings().appservice.as_token.reveal())

    yield bench.case(bench.settings(), surroundings=replace(HERE, free_bytes=never_foreseen))


def with_keys(bench: Bench) -> Case:
    """A state directory with the keys that a start makes."""
    settings = bench.settings()
    settings.state_dir.mkdir(mode=0o711)
    EventKeys(settings.state_dir)
    DayKeys(settings.state_dir, SystemClock()).prepare()
    return bench.case(settings)


# --- the clock ---


class Ahead:
    """A clock that is an hour and a half ahead."""

    def now(self) -> datetime:
        return SystemClock().now() + timedelta(hours=1.5)

    def today(self) -> date:
        return self.now().astimezone(UTC).date()


@row("clocks", "this machine's clock is 5400 s ahead of those of the database and the homeserver",
     "timedatectl set-ntp true")  # fmt: skip
async def a_clock_that_is_off(bench: Bench) -> AsyncIterator[Case]:
    yield bench.case(bench.settings(), surroundings=replace(HERE, clock=Ahead()))
