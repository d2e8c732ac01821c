"""The files under ``state_dir``: what each holds, for what, and how long."""

from dataclasses import dataclass

from bridge.storage.datamap import RECEIVED_DAYS
from bridge.storage.labels import Holds


@dataclass(frozen=True, slots=True)
class File:
    """What lies beside the database."""

    path: str
    holds: Holds
    why: str
    keep: str


FILES: tuple[File, ...] = (
    File("keys/day/*", Holds.SECRET, "the keys of sealed columns, one a day",
         f"{RECEIVED_DAYS} days"),
    File("keys/event-ids", Holds.SECRET, "the key of the hashes", "the installation"),
    File("keys/master", Holds.SECRET, "the master key of the vault", "the installation"),
    File("keys/erased", Holds.NONE, "hashes of keys that were destroyed with their owner's data",
         "the installation; the newest 100,000"),
    File("keys/opted-out", Holds.ID, "hashes of who does not want to be bridged, and where, so "
         "that no backup undoes it; in no backup", "as long as the person wants it so"),
    File("keys/double-off", Holds.ID, "hashes of who wants no double puppet any more, so that no "
         "backup undoes it; in no backup", "as long as the person wants it so"),
    File("keys/logged-out", Holds.ID, "hashes of who has ended which login, so that no backup "
         "undoes it; in no backup", "until the person signs in to it again"),
    File("keys/erased-people", Holds.ID, "hashes of who had what is kept about them erased, so "
         "that no backup undoes it; in no backup", "the installation"),
    File("keys/used-openids", Holds.NONE, "hashes of homeservers' tokens with which people signed "
         "in to the web, so that no backup makes them good again; in no backup",
         "a day, and then until the next sign-in"),
    File("keys/audit", Holds.SECRET, "the key of the audit's hashes", "the installation"),
    File("keys/database", Holds.SECRET, "passwords of the embedded database's roles",
         "the installation"),
    File("audit.head", Holds.NONE, "number and hash of the newest audit row", "the installation"),
    File("last-backup", Holds.NONE, "when the newest backup was finished", "the installation"),
    File("incoming/", Holds.CONTENT, "what a restore or a move is making", "until it is done"),
    File("incoming.ready", Holds.NONE, "that it is to take the old one's place", "until it has"),
    File("before-*/", Holds.CONTENT, "the state that a restore, a move or an upgrade replaced",
         "until an admin deletes it; the keys of days in it as above"),
    File("inflight", Holds.NONE, "which events modules are working on, as numbers", "the event"),
    File("postgres/postgres.log*", Holds.NONE, "what the embedded database says, a file a day; no "
         "row's values", f"{RECEIVED_DAYS} days"),
    File("postgres/", Holds.CONTENT, "the embedded database: the tables above", "as above"),
)  # fmt: skip
"""Under ``state_dir``."""
