"""The files in ``deploy/``, each judged by the program that it is for, and used where we can."""

import asyncio
import io
import os
import re
import shutil
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from bridge.demo.processes import Program, free_port, wait_until_listening
from bridge.settings.records import DatabaseSettings
from tests.admin.commands import init
from tests.conformance.stage import ask, play
from tests.deploy.tools import DEPLOY, TOP, run
from tests.rigs.certificates import Certificates, make_certificates
from tests.rigs.trestle import wait_until

UNIT = DEPLOY / "systemd/trestle.service"
TRANSACTION = "/_matrix/app/v1/transactions/through-the-proxy"


def test_systemd_takes_the_unit(folder: Path) -> None:
    unit = folder / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/trestle/bin/trestle", "/bin/true"))
    assert run("systemd-analyze", "verify", "--man=no", unit) == ""


def test_systemd_finds_little_to_fear_of_the_service() -> None:
    # The threshold is ten times what the command prints: 1.5 of 10.
    run("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", UNIT)


def test_systemd_makes_the_user_that_the_unit_names(folder: Path) -> None:
    (folder / "etc/sysusers.d").mkdir(parents=True)
    file = folder / "etc/sysusers.d/trestle.conf"
    shutil.copy(DEPLOY / "systemd/trestle.sysusers.conf", file)
    run("systemd-sysusers", f"--root={folder}", "trestle.conf")
    made = (folder / "etc/passwd").read_text()
    (name,) = re.findall(r"^User=(.+)$", UNIT.read_text(), re.MULTILINE)
    assert re.search(rf"(?m)^{name}:x:\d+:\d+:Trestle:/var/lib/trestle:/usr/sbin/nologin$", made)


def allowed_calls() -> set[str]:
    """The system calls that the unit leaves, by the sets of systemd itself."""
    groups: dict[str, set[str]] = {}
    current = ""
    for line in run("systemd-analyze", "syscall-filter", "--no-pager").splitlines():
        word = re.sub(r"\x1b\[[0-9;]*m", "", line).strip()
        if line.startswith(("@", "\x1b")) and word.startswith("@"):
            current = word
            groups[current] = set()
        elif word and not word.startswith("#") and current:
            groups[current].add(word)

    def spread(name: str) -> set[str]:
        inner = [spread(one) if one.startswith("@") else {one} for one in groups[name]]
        return set().union(*inner)

    allowed: set[str] = set()
    for words in re.findall(r"^SystemCallFilter=(.+)$", UNIT.read_text(), re.MULTILINE):
        names = words.removeprefix("~").split()
        for name in names:
            allowed = allowed - spread(name) if words[0] == "~" else allowed | spread(name)
    return allowed


BY_ROOT_ONLY = {"chown", "fchown", "fchownat", "setgroups", "setresuid", "setuid"}
"""Started by root, it gives its Postgres another user; the unit's user needs none of that."""


async def test_the_unit_forbids_nothing_that_the_program_does(folder: Path) -> None:
    ports = [f"appservice.listen=127.0.0.1:{free_port()}", f"ops.listen=127.0.0.1:{free_port()}"]
    assert init(folder, *[word for one in ports for word in ("--set", one)]).code == 0
    traced = Program("Trestle", folder / "log")
    # Only what is forbidden stops for the tracer, and two calls that are looked at more closely.
    free = ",".join(f"?{name}" for name in sorted(allowed_calls() - {"mmap", "socket"}))
    words = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", str(folder / "trace"), "-e"]
    words += [f"trace=!{free}", sys.executable, "-m", "bridge"]
    await traced.start([*words, "run", "-c", str(folder / "config.yaml")])
    try:
        async with asyncio.timeout(180):
            while "[ready]" not in traced.last_words(50):
                assert traced.exit_code is None, traced.last_words()
                await asyncio.sleep(0.1)
    finally:
        # The tracer passes no signal on; with its child it ends itself.
        for child in Path(f"/proc/{traced.pid}/task/{traced.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGTERM)
        await wait_until(lambda: traced.exit_code is not None)
        await traced.kill()
    trace = (folder / "trace").read_text(errors="replace")
    calls = set(re.findall(r"^\d+ +(?:<\.\.\. )?([a-z]\w+)(?:\(| resumed>)", trace, re.MULTILINE))
    assert {"mmap", "socket"} <= calls
    assert calls - {"mmap", "socket"} - BY_ROOT_ONLY == set()
    families = set(re.findall(r"\bsocket\((AF_\w+)", trace))
    (granted,) = re.findall(r"^RestrictAddressFamilies=(.+)$", UNIT.read_text(), re.MULTILINE)
    assert families <= set(granted.split())
    assert re.search(r"PROT_WRITE\|PROT_EXEC", trace) is None  # MemoryDenyWriteExecute


def test_the_compose_file_is_one_and_takes_rights_away() -> None:
    linter = Path(sys.executable).with_name("check-jsonschema")
    run(linter, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")
    text = (DEPLOY / "compose.yaml").read_text()
    for words in ("read_only: true", "- ALL", "no-new-privileges:true"):
        assert words in text
    assert "ports:" not in text


def test_prometheus_takes_its_files() -> None:
    said = run("promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml")
    assert "alerts.yml" in said
    assert "FAILED" not in said


def test_caddy_takes_its_file_as_it_is() -> None:
    file = DEPLOY / "caddy/Caddyfile"
    assert "Valid configuration" in run("caddy", "validate", "--config", file, "--adapter",
                                        "caddyfile")  # fmt: skip
    assert run("caddy", "fmt", file) == file.read_text()


def nginx_command(folder: Path, made: Certificates, port: int, receiver: int) -> Sequence[str]:
    """nginx with the example in it: another port, certificates of ours, this machine let in."""
    text = (DEPLOY / "nginx/trestle.conf").read_text()
    for theirs, ours in {
        "listen 443": f"listen 127.0.0.1:{port}", "listen [::]:443": f"listen [::1]:{port}",
        "/etc/ssl/trestle/fullchain.pem": str(made.certificate),
        "/etc/ssl/trestle/key.pem": str(made.key),
        "allow 192.0.2.10": "allow 127.0.0.1", "127.0.0.1:29333": f"127.0.0.1:{receiver}",
    }.items():  # fmt: skip
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    (folder / "trestle.conf").write_text(text)
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind}; "
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {paths} include {folder}/trestle.conf; }}\n"
    )
    return ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


def caddy_command(folder: Path, made: Certificates, port: int, receiver: int) -> Sequence[str]:
    """Caddy with the example in it, in the same way."""
    text = (DEPLOY / "caddy/Caddyfile").read_text()
    for theirs, ours in {
        "trestle.example.org {": f"https://127.0.0.1:{port} {{\n\tbind 127.0.0.1\n"
        f"\ttls {made.certificate} {made.key}",
        "192.0.2.10": "127.0.0.1", "127.0.0.1:29333": f"127.0.0.1:{receiver}",
    }.items():  # fmt: skip
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    head = "{\n\tadmin off\n\tauto_https off\n}\n"
    (folder / "Caddyfile").write_text(head + text)
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@asynccontextmanager
async def running(command: Sequence[str], folder: Path, port: int) -> AsyncIterator[None]:
    program = Program(command[0], folder / "proxy.log")
    env = {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
    found = shutil.which(command[0], path="/usr/sbin:/usr/bin:/bin")
    assert found is not None
    await program.start([found, *command[1:]], env=env)
    try:
        await wait_until_listening(program, port, 120)
        yield
    finally:
        await program.stop()


Make = Callable[[Path, Certificates, int, int], Sequence[str]]


@pytest.mark.parametrize("make_command", [nginx_command, caddy_command])
async def test_a_transaction_passes_the_proxy_and_nothing_else_does(
    make_command: Make, database_settings: DatabaseSettings, folder: Path
) -> None:
    made, port = make_certificates(folder), free_port()
    async with play(database_settings, folder) as at_work:
        receiver = at_work.settings.appservice.listen.port
        command = make_command(folder, made, port, receiver)
        if command[0] == "nginx":
            await asyncio.to_thread(run, *command, "-t")
        context = ssl.create_default_context(cafile=made.authority)
        async with running(command, folder, port), aiohttp.ClientSession() as session:
            url = f"https://127.0.0.1:{port}"
            token = at_work.settings.appservice.hs_tokens[0].reveal()
            head = {"Authorization": f"Bearer {token}"}
            events = [ask("tea"), *(filler(number) for number in range(2000))]
            body = io.BytesIO(orjson.dumps({"events": events}))
            async with session.put(
                url + TRANSACTION, data=body, headers=head, ssl=context
            ) as answer:
                assert answer.status == 200, await answer.text()
            assert "tea" in await at_work.heard()
            for path in ("/", "/metrics", "/_matrix/client/versions"):
                async with session.get(url + path, headers=head, ssl=context) as answer:
                    assert answer.status == 404, path


def filler(number: int) -> dict[str, object]:
    """An event of a room where nobody of ours is, 2 kB long."""
    return ask("x" * 1000, room=f"!nowhere{number}")


def test_the_container_has_what_the_build_needs() -> None:
    told = (TOP / "Dockerfile").read_text()
    kept = (TOP / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--)(.+) \S+$", told, re.MULTILINE):
        for name in line.split():
            assert (TOP / name).exists()
            assert f"!{name}" in kept
