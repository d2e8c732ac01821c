"""Ways to misconfigure Trestle: the doctor or the start names each in a sentence.

The rows are in ``wrong_*.py``: each says how something is broken, and what words must appear.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.doctor import Finding
from bridge.settings.records import Settings
from tests.admin.commands import trestle
from tests.admin.estate import Bench, Estate, Row, run_estate
from tests.admin.wrong_database import DATABASE
from tests.admin.wrong_files import FILES
from tests.admin.wrong_homeserver import HOMESERVER

TABLE = [*FILES.all, *DATABASE.all, *HOMESERVER.all]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def estate() -> AsyncIterator[Estate]:
    async with run_estate() as made:
        yield made


def sentences_of(findings: list[Finding]) -> list[str]:
    return [f"{one.level} {one.check}: {one.sentence}" for one in findings]


def assert_no_secret(settings: Settings, said: str) -> None:
    appservice = settings.appservice
    for secret in (appservice.as_token, *appservice.hs_tokens):
        assert secret.reveal() not in said
    password = re.search("//[^:]+:([^@]+)@", settings.database.url)
    assert password is None or password[1] not in said


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
async def test_what_is_wrong_is_named_with_the_way_out(
    row: Row, estate: Estate, folder: Path
) -> None:
    async with row.spoil(Bench(estate, folder)) as case:
        if isinstance(case, Path):
            assert row.check == "settings"
            for command in ("doctor", "run"):
                ended = trestle(command, "-c", case)
                assert ended.code == 2
                assert ended.errors.count("\n") == 1
                assert [word for word in row.words if word not in ended.errors] == []
            return
        findings = await case.examine()
    said = sentences_of(findings)
    assert_no_secret(case.settings, "".join(said))
    assert [one for one in said if "\n" in one] == []
    wanted = {row.check, *row.also} if row.level == "bad" else set(row.also)
    assert {one.check for one in findings if one.level == "bad"} == wanted, "\n".join(said)
    named = [
        one
        for one in findings
        if (one.check, one.level) == (row.check, row.level)
        and all(word in one.sentence for word in row.words)
    ]
    assert len(named) == 1, "\n".join(said)


def test_there_are_more_ways_than_thirty() -> None:
    names = [row.name for row in TABLE]
    assert len(set(names)) == len(names) >= 30
    assert {row.check for row in TABLE} >= {"settings", "database", "homeserver", "ping"}
