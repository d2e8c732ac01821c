"""The database, judged by what was seen of it."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from bridge.doctor.state import in_megabytes
from bridge.sdk.examination import Remark, bad, note, well
from bridge.storage.inspection import Facts, Looked
from bridge.storage.postgres import name_of

_CONNECTIONS = 16
"""What a running Trestle and a look at it need at once."""

_PRINT = "`trestle init --print-sql` prints what its admin must run"


def judge(looked: Looked, *, is_running: bool, is_embedded: bool) -> Sequence[Remark]:
    """Say what is wrong with it; if nothing is, sum it up."""
    facts = looked.facts
    found = [
        *_judge_server(facts),
        *([] if is_embedded else _judge_roles(facts)),
        *_judge_schema(facts),
        *_judge_use(facts, is_running=is_running),
        *_judge_audit(looked.audit_faults),
    ]
    if any(remark.level == "bad" for remark in found):
        return found
    return [*found, well(_summary(facts))]


def left_to_its_user(state_dir: Path) -> Sequence[Remark]:
    """What to tell root of another user's embedded database that is stopped; else nothing."""
    owner = state_dir.stat().st_uid
    if os.geteuid() != 0 or owner == 0:
        return []
    who = name_of(owner)
    return [
        note(
            f"not looked at: Trestle is stopped, and its embedded database belongs to {who}, who "
            f"could not use it once root had started it; `runuser -u {who} -- trestle doctor ...` "
            "looks at it"
        )
    ]


def _judge_server(facts: Facts) -> Iterator[Remark]:
    if facts.encoding != "UTF8":
        yield bad(
            f"the database is encoded in {facts.encoding}, which cannot hold every text; create "
            "it anew: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )
    if facts.is_standby:
        yield bad(
            "the database is a standby, which is read-only; name the primary in database.url"
        )
    if not facts.survives_power_cuts:
        yield note(
            "the database has fsync or full_page_writes off: a power cut can lose events that "
            "were acknowledged. Switch them on in postgresql.conf"
        )
    if 0 <= facts.connections < _CONNECTIONS:
        yield bad(
            f"the role {facts.login} may have {facts.connections} connections, but Trestle needs "
            f"{_CONNECTIONS}; as an admin run: ALTER ROLE {facts.login} CONNECTION LIMIT -1"
        )


def _judge_roles(facts: Facts) -> Iterator[Remark]:
    if not facts.may_make_roles:
        if facts.missing_roles:
            yield bad(
                f"the database has no role {' and '.join(facts.missing_roles)}, and "
                f"{facts.login} may not make any; {_PRINT}"
            )
        for role, login in facts.refused_roles:
            yield bad(f"the database role {login} is not a member of {role}; {_PRINT}")
        if not facts.may_make_tables:
            yield bad(f"the role trestle_owner may make no tables in the database; {_PRINT}")
    for role in facts.unbound_roles:
        yield bad(
            f"the database role {role} may bypass row-level security; as an admin run: "
            f"ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS"
        )
    if facts.is_superuser:
        yield note(
            f"database.url connects as {facts.login}, who may do everything on that server; make "
            f"Trestle a role of its own: {_PRINT}"
        )


def _judge_schema(facts: Facts) -> Iterator[Remark]:
    if facts.schema is None:
        yield bad(f"{facts.login} may not read the table schema_version in the database; {_PRINT}")
    elif facts.schema > facts.newest_schema:
        yield bad(
            f"the database has schema {facts.schema}, made by a newer Trestle; this one knows up "
            f"to {facts.newest_schema}. Install the newer version again, or restore a backup made "
            "before it"
        )
    elif facts.schema == 0 and facts.tables:
        yield bad(
            f"the database is somebody else's: it holds {', '.join(facts.tables[:3])}. Give "
            "Trestle one of its own"
        )
    elif 0 < facts.schema < facts.newest_schema:
        yield note(
            f"the database is an older Trestle's (schema {facts.schema}); the next start brings "
            f"it to {facts.newest_schema}, after which the older one cannot use it: make a backup"
        )


def _judge_use(facts: Facts, *, is_running: bool) -> Iterator[Remark]:
    if facts.in_use and not is_running:
        yield bad(
            "another Trestle, with another state_dir, is at work on this database; stop it, or "
            "give this one a database of its own"
        )


def _judge_audit(faults: Sequence[str]) -> Iterator[Remark]:
    if faults:
        more = f", and {len(faults) - 1} more" if faults[1:] else ""
        yield bad(
            f"{faults[0]}{more}: somebody changed the database by hand, or it is an older copy; "
            "restore a backup, with its state_dir"
        )


def _summary(facts: Facts) -> str:
    start = f"Postgres {facts.version.partition(' ')[0]} answers"
    if not facts.schema:
        return f"{start} and is empty; the first start makes the tables"
    if facts.schema < facts.newest_schema:
        return f"{start} ({in_megabytes(facts.size)}), and the audit is whole"
    return f"{start} ({in_megabytes(facts.size)}), the schema is up to date, the audit is whole"
