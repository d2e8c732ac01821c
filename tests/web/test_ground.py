"""The web's ground: headers on everything, errors in one form, tokens and nothing else."""

import asyncio
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bridge.model import SystemClock
from bridge.sdk.errors import ConfigError
from bridge.settings.records import Address, DatabaseSettings, WebSettings
from bridge.storage.pool import Database
from bridge.web.api import Api
from bridge.web.headers import origin_of
from bridge.web.provisioning import Provisioning
from bridge.web.requests import PREFIX
from bridge.web.server import WebServer
from tests.net.server import always, plain, scripted
from tests.rigs.trestle import wait_until
from tests.web.conftest import ALICE, BEA, MANAGER, Site, open_site, run_site

TOP = Path(__file__).parents[2]
OPENID = {
    "access_token": "one", "token_type": "Bearer", "matrix_server_name": "good.example",
    "expires_in": 3600,
}  # fmt: skip
NOBODY: Any = None
"""Where what stands behind the routes is not asked."""

WALK = [
    ("GET", "/"), ("GET", "/link"), ("HEAD", "/link"), ("GET", "/static/style.css"),
    ("GET", "/static/link.js"), ("GET", "/static/"), ("GET", "/static/../server.py"),
    ("GET", "/static/%2e%2e/server.py"), ("GET", "/nowhere"), ("POST", "/link"),
    ("GET", f"{PREFIX}/account"), ("GET", f"{PREFIX}/nowhere"), ("PUT", f"{PREFIX}/logout"),
    ("POST", f"{PREFIX}/register"), ("POST", f"{PREFIX}/links/take"), ("GET", f"{PREFIX}/tokens"),
    ("DELETE", f"{PREFIX}/tokens/1"), ("OPTIONS", f"{PREFIX}/account"), ("TRACE", "/"),
    ("GET", "/_matrix/integrations/v1/account"),
]  # fmt: skip


# --- headers ---


async def test_every_answer_of_both_origins_has_the_headers_and_sets_no_cookie(
    site: Site,
) -> None:
    for public in (False, True):
        for method, path in WALK:
            answer = await site.ask(method, path, public=public)
            headers, where = answer.headers, (method, path, public, answer.status)
            policy = headers["Content-Security-Policy"]
            for rule in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
                assert rule in policy, where
            assert "unsafe" not in policy, where
            for name, value in {
                "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-store", "Server": "Trestle",
                "Cross-Origin-Opener-Policy": "same-origin",
                "Strict-Transport-Security": "max-age=31536000",
            }.items():  # fmt: skip
                assert headers[name] == value, (where, name)
            assert "Set-Cookie" not in headers, where
            assert "Access-Control-Allow-Origin" not in headers, where
            assert answer.status < 500, where


async def test_no_page_runs_or_shows_what_is_written_into_it(site: Site) -> None:
    for path in ("/link", "/nowhere"):
        page = (await site.ask("GET", path)).content
        assert not re.search(r"<script(?![^>]*\bsrc=)", page), path
        assert not re.search(r"<style|\son\w+=|\sstyle=|javascript:", page), path
        assert not re.search(r"(src|href)=\"(?!/static/)", page), path
    scripts = list((TOP / "bridge/web/static").glob("*.js"))
    assert scripts
    for script in scripts:
        banned = re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|"
            r"localStorage|sessionStorage|document\.cookie|postMessage",
            script.read_text(),
        )
        assert banned is None, (script.name, banned)


# --- errors ---


@pytest.mark.parametrize(
    ("method", "path", "status", "errcode"),
    [
        ("GET", "/nowhere", 404, "M_UNRECOGNIZED"),
        ("PUT", "/logout", 405, "M_UNRECOGNIZED"),
        ("GET", "/account", 401, "M_MISSING_TOKEN"),
        ("POST", "/register", 415, "M_NOT_JSON"),
        ("POST", "/links/take", 415, "M_NOT_JSON"),
    ],
)
async def test_an_error_of_the_api_has_its_code_and_a_sentence(
    site: Site, method: str, path: str, status: int, errcode: str
) -> None:
    answer = await site.ask(method, PREFIX + path)
    assert (answer.status, answer.errcode) == (status, errcode)
    assert answer.content.keys() == {"errcode", "error"}
    assert answer.content["error"].endswith(".")


async def test_an_error_of_a_page_is_a_page_that_quotes_nothing(site: Site) -> None:
    for public in (False, True):
        answer = await site.ask("GET", "/<script>alert(1)</script>?x=<b>", public=public)
        assert answer.status == 404
        assert "There is nothing here." in answer.content
        assert "alert(" not in answer.content
        assert "<b>" not in answer.content


@pytest.mark.parametrize(
    ("body", "kind", "status", "errcode"),
    [
        (b"{", "application/json", 400, "M_NOT_JSON"),
        (b"", "application/json", 400, "M_NOT_JSON"),
        (b"\xff", "application/json", 400, "M_NOT_JSON"),
        (b"[]", "application/json", 400, "M_BAD_JSON"),
        (b'{"token": 1}', "application/json", 403, "M_FORBIDDEN"),
        (b"{}", "application/json", 403, "M_FORBIDDEN"),
        (b'{"token": "\\ud800"}', "application/json", 400, "M_NOT_JSON"),
        (b"{}", "text/plain", 415, "M_NOT_JSON"),
        (b"token=x", "application/x-www-form-urlencoded", 415, "M_NOT_JSON"),
        (b"[" * 60_000, "application/json", 400, "M_NOT_JSON"),
        (b'{"x": "' + b"x" * 70_000 + b'"}', "application/json", 413, "M_TOO_LARGE"),
    ],
)
async def test_what_is_no_json_object_is_refused(
    site: Site, body: bytes, kind: str, status: int, errcode: str
) -> None:
    answer = await site.ask(
        "POST", f"{PREFIX}/links/take", data=body, headers={"Content-Type": kind}
    )
    assert (answer.status, answer.errcode) == (status, errcode)


async def test_a_database_that_is_away_is_told_in_words_that_show_nothing(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with open_site(database_settings, folder) as site:
        token = await site.sign_in()
        await site.database.core.close()
        answer = await site.ask("GET", f"{PREFIX}/account", token=token)
    assert answer.status == 503
    assert answer.content["error"] == "This does not work at the moment; try again soon."


# --- one-time links ---


async def test_a_link_opens_once_and_says_who_and_what_for(site: Site) -> None:
    link = await site.server.make_link(ALICE, "login:libera")
    assert link is not None
    place, _, secret = link.partition("#")
    assert place == f"{MANAGER}/link"
    assert len(secret) == 43
    first = await site.ask("POST", f"{PREFIX}/links/take", json={"token": secret})
    assert first.status == 200
    assert first.content["user_id"] == ALICE
    assert first.content["scope"] == "login:libera"
    again = await site.ask("POST", f"{PREFIX}/links/take", json={"token": secret})
    assert (again.status, again.errcode) == (403, "M_FORBIDDEN")
    assert "Ask the bot for a new one" in again.content["error"]
    token = first.content["token"]
    account = await site.ask("GET", f"{PREFIX}/account", token=token)
    assert account.content == {"user_id": ALICE, "scope": "login:libera"}
    # It is good for that login, not for the rest.
    assert (await site.ask("GET", f"{PREFIX}/tokens", token=token)).errcode == "M_UNKNOWN_TOKEN"


async def test_whoever_only_looks_at_a_link_does_not_use_it_up(site: Site) -> None:
    link = await site.server.make_link(ALICE, "manager")
    assert link is not None
    secret = link.partition("#")[2]
    for method, path in (
        ("GET", "/link"), ("HEAD", "/link"), ("GET", f"/link?token={secret}"),
        ("GET", f"{PREFIX}/links/take"), ("OPTIONS", f"{PREFIX}/links/take"),
    ):  # fmt: skip
        await site.ask(method, path)
    taken = await site.ask("POST", f"{PREFIX}/links/take", json={"token": secret})
    assert taken.status == 200


# --- tokens ---


async def test_a_token_counts_as_a_bearer_and_in_no_other_way(site: Site) -> None:
    token = await site.sign_in()
    path = f"{PREFIX}/account"
    assert (await site.ask("GET", path, token=token)).status == 200
    for query in ("access_token", "scalar_token", "token"):
        assert (await site.ask("GET", f"{path}?{query}={token}")).errcode == "M_MISSING_TOKEN"
    for headers in (
        {"Cookie": f"token={token}; access_token={token}"}, {"Authorization": token},
        {"Authorization": f"Basic {token}"}, {"Authorization": "Bearer "},
        {"X-Access-Token": token},
    ):  # fmt: skip
        assert (await site.ask("GET", path, headers=headers)).errcode == "M_MISSING_TOKEN"
    for wrong in (token[:-1], token + "x", token.swapcase(), "x"):
        assert (await site.ask("GET", path, token=wrong)).errcode == "M_UNKNOWN_TOKEN"


async def test_tokens_are_listed_and_revoked_by_their_owner_at_once(site: Site) -> None:
    first, second = await site.sign_in(), await site.sign_in()
    theirs = await site.sign_in(BEA)
    listed = (await site.ask("GET", f"{PREFIX}/tokens", token=first)).content["tokens"]
    assert [row["this"] for row in listed].count(True) == 1
    assert len(listed) == 2
    assert not {first, second} & {str(value) for row in listed for value in row.values()}
    other = next(row["id"] for row in listed if not row["this"])
    for wrong, who in ((other, theirs), ("1", first), (f"{other}x", first)):
        refused = await site.ask("DELETE", f"{PREFIX}/tokens/{wrong}", token=who)
        assert (refused.status, refused.errcode) == (404, "M_NOT_FOUND")
    assert (await site.ask("DELETE", f"{PREFIX}/tokens/{other}", token=first)).status == 200
    assert (await site.ask("GET", f"{PREFIX}/account", token=second)).status == 401
    assert (await site.ask("POST", f"{PREFIX}/logout", token=first)).content == {}
    assert (await site.ask("GET", f"{PREFIX}/account", token=first)).status == 401
    assert (await site.ask("GET", f"{PREFIX}/account", token=theirs)).status == 200


async def test_an_openid_token_signs_in_once(site: Site) -> None:
    signed = await site.ask("POST", f"{PREFIX}/register", json=OPENID)
    assert signed.status == 200
    assert signed.content["user_id"] == ALICE
    account = await site.ask("GET", f"{PREFIX}/account", token=signed.content["token"])
    assert account.content == {"user_id": ALICE, "scope": "manager"}
    again = await site.ask("POST", f"{PREFIX}/register", json=OPENID)
    assert (again.status, again.errcode) == (401, "M_UNKNOWN_TOKEN")
    for change in ({"matrix_server_name": "evil.example"}, {"expires_in": 0}):
        refused = await site.ask("POST", f"{PREFIX}/register", json={**OPENID, **change})
        assert (refused.status, refused.errcode) == (401, "M_UNKNOWN_TOKEN")


async def test_who_signs_in_very_often_is_asked_to_wait(site: Site, folder: Path) -> None:
    vouched = plain(b'{"sub": "@alice:good.example"}', Content_Type="application/json")
    async with (
        scripted(always(vouched)) as homeserver,
        run_site(site.database, folder, f"http://127.0.0.1:{homeserver.port}") as other,
    ):
        for number in range(61):
            shown = {**OPENID, "access_token": f"number-{number}"}
            answer = await other.ask("POST", f"{PREFIX}/register", json=shown)
            assert answer.status == (200 if number < 60 else 429)
    assert answer.errcode == "M_LIMIT_EXCEEDED"


async def test_many_who_sign_in_at_once_do_not_make_us_ask_without_end(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    asked, go_on = 0, asyncio.Event()

    async def slow(head: str, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await go_on.wait()
        writer.write(plain(b"{}", "401 No"))

    async with (
        Database.open(database_settings, folder, SystemClock()) as database,
        scripted(slow) as homeserver,
        run_site(database, folder, f"http://127.0.0.1:{homeserver.port}") as site,
        asyncio.TaskGroup() as group,
    ):
        tries = [
            group.create_task(site.ask("POST", f"{PREFIX}/register", json=OPENID))
            for _ in range(80)
        ]
        await wait_until(lambda: sum(one.done() for one in tries) == 80 - 32)
        assert {one.result().errcode for one in tries if one.done()} == {"M_LIMIT_EXCEEDED"}
        assert asked <= 8
        go_on.set()
        assert [(await one).status for one in tries].count(401) == 32


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://manager.example", "https://manager.example:8443",
     "https://public.example:8443", "https://manager.example.evil.example", ""],
)  # fmt: skip
async def test_a_page_of_another_origin_is_refused(site: Site, origin: str) -> None:
    token = await site.sign_in()
    for method, path in (("GET", "/account"), ("POST", "/logout"), ("POST", "/links/take")):
        refused = await site.ask(
            method, PREFIX + path, token=token, json={}, headers={"Origin": origin}
        )
        assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")
    own = await site.ask("GET", f"{PREFIX}/account", token=token, headers={"Origin": MANAGER})
    assert own.status == 200


# --- settings ---


@pytest.mark.parametrize(
    ("manager", "public", "path"),
    [
        ("https://m.example/trestle", None, "web.manager_url"),
        ("https://m.example", "https://m.example", "web.public_url"),
        ("https://m.example", "https://M.example:443/public", "web.public_url"),
    ],
)
def test_the_manager_has_an_origin_of_its_own(manager: str, public: str | None, path: str) -> None:
    settings = WebSettings(manager_url=manager, public_url=public)
    with pytest.raises(ConfigError) as refused:
        WebServer(settings, NOBODY, NOBODY, NOBODY)
    assert refused.value.path == path


async def test_without_urls_nothing_listens_and_there_are_no_links() -> None:
    server = WebServer(WebSettings(), NOBODY, NOBODY, NOBODY)
    await server.start()
    assert server.address is server.public_address is None
    assert await server.make_link(ALICE, "manager") is None
    await server.stop()


async def test_a_taken_address_is_named_by_its_key(site: Site) -> None:
    taken = site.server.address
    assert taken is not None
    for settings, path in (
        (WebSettings(manager_url=MANAGER, listen=taken), "web.listen"),
        (WebSettings(public_url=MANAGER, public_listen=taken), "web.public_listen"),
    ):
        with pytest.raises(ConfigError) as refused:
            await WebServer(settings, NOBODY, NOBODY, NOBODY).start()
        assert refused.value.path == path


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://A.example/x?y#z", "https://a.example"),
        ("https://a.example:443", "https://a.example"),
        ("http://a.example:443/", "http://a.example:443"),
        ("http://[::1]:80", "http://[::1]"),
        ("http://[FD00::1]:8184", "http://[fd00::1]:8184"),
    ],
)
def test_an_origin_is_written_as_browsers_do(url: str, origin: str) -> None:
    assert origin_of(url) == origin


def test_the_description_of_the_api_has_its_routes_and_no_others() -> None:
    described = YAML(typ="safe").load((TOP / "docs/reference/api.yaml").read_text())
    told = {
        (method.upper(), PREFIX + path)
        for path, operations in described["paths"].items()
        for method in operations
    }
    routes = [
        *Api("", NOBODY, NOBODY, NOBODY).routes(),
        *Provisioning(NOBODY, NOBODY, NOBODY, NOBODY, NOBODY).routes(),
    ]
    served = {(route.method, route.path) for route in routes}
    assert told == served
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert "default" in operation["responses"], (method, path)
    assert Address("127.0.0.1", 8184) == WebSettings().listen


POST = b"POST /_trestle/v1/register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /link HTTP/1.1\r\nHost: x\r\n\r\nhello\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nno length\r\n\r\n",
        POST + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\nno gzip..",
        POST + b"Content-Length: 100\r\n\r\n{",
    ],
)
async def test_what_strangers_send_that_is_no_http_is_no_failure_of_ours(
    site: Site, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    address = site.server.address
    assert address is not None
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(sent)
        writer.write_eof()
        await reader.read()
        writer.close()
    assert [one.getMessage() for one in caplog.records if one.levelno > logging.INFO] == []
