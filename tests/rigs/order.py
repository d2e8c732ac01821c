"""Which tests run beside each other: a file's in one worker, the longest files first.

A file's tests share its servers, and some files share the demo's ports or something that takes a
minute to make. A long file that began last would keep the other workers waiting for its end.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling

TOGETHER = {
    # The ports that people see are one machine's; and a fresh installation takes a minute.
    "demo": (
        "deploy/test_documents", "deploy/test_first_hour", "deploy/test_manual",
        "demo/test_demo", "crash/test_prove",
    ),
    "installation": ("admin/test_doctor", "admin/test_bad_input"),
}  # fmt: skip
"""Files of one worker, one after another."""

LONGEST = (
    *TOGETHER["demo"],
    "flow/test_following", "crash/test_proof", "crash/test_poison", "core/test_sender",
    "flow/test_aside", "sdk/test_testing", "crash/test_stopping", "flow/test_reconcile",
    "irc/test_servers", "flow/test_erasing", "flow/test_invitations", "flow/test_reload",
    "admin/test_pages", "flow/test_replaced_rooms", "crash/test_failpoints", "test_again",
    "flow/test_conversation", "flow/test_logins", "irc/test_commands", "flow/test_all_parked",
    "flow/test_direct_chats", "web/test_logins", "flow/test_who_may_what", "flow/test_consent",
    "flow/test_homeserver_away", "crash/test_putting_aside", "flow/test_double_puppets",
    "flow/test_privacy", "flow/test_members", "flow/test_restore", *TOGETHER["installation"],
)  # fmt: skip
"""Files that run before all others."""

_TESTS = Path(__file__).parent.parent
_PLACES = {f"tests/{file}.py": place for place, file in enumerate(LONGEST)}
_GROUPS = {f"tests/{file}.py": group for group, files in TOGETHER.items() for file in files}


def sort(items: list[pytest.Item]) -> None:
    """Put the longest files first; all else stays where it is."""
    items.sort(key=lambda item: _PLACES.get(_file_of(item.nodeid), len(_PLACES)))


def files_that_are_not_there() -> Sequence[str]:
    """What is named here and has gone."""
    return [file for file in LONGEST if not (_TESTS / f"{file}.py").is_file()]


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


class ByFile(LoadScopeScheduling):  # type: ignore[misc] # It has no types.
    """Hands a worker all tests of a file, or of files that belong together.

    It keeps the order they come in; xdist itself would begin with the file of the most tests.
    """

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        file = _file_of(nodeid)
        return _GROUPS.get(file, file)
