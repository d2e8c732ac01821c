"""The data map: of every column what it holds, for what, how long, and whose it is.

What the database forgets, and when, follows from it; ``docs/reference/data-map.md`` is made
from it; a column that is not in it fails a test.
"""

from collections.abc import Mapping

from bridge.storage.labels import After, ByDay, Goes, Holds, Label, Stays, Table, While


def _none(why: str) -> Label:
    return Label(Holds.NONE, why)


def _id(why: str) -> Label:
    return Label(Holds.ID, why)


def _content(why: str) -> Label:
    """Said by somebody, and sealed with the key of a day."""
    return Label(Holds.CONTENT, why, days=RECEIVED_DAYS, sealed=True)


RECEIVED_DAYS = 14
"""Today and 13 days more: what was received is gone before it is 14 days old."""

_RECEIVED = ByDay(RECEIVED_DAYS)
_ACCESS = ByDay(60)
_DAY = _none("the UTC day of the row, by which it is forgotten")
_SEQ = _none("the number in order of arrival")
_EPOCH = _none("which start of the program wrote it")
_INSTANCE = _none("the configured module")
_REASON = _none("why it was put aside, one of a closed set")
_DETAIL = _content("why it was put aside, in a sentence")
_STATE = _none("how far it is")
_TRIES = _none("how often it was tried")
_ROOM = _id("the Matrix room")
_SUBJECT = _id("the person whose row it is")
_SINCE = _none("since when")

DATA_MAP: tuple[Table, ...] = (
    Table(
        "schema_version", "which migrations were run", While("the installation"),
        {"version": _none("a migration's number")},
    ),
    Table(
        "instance_state", "what the installation is", While("the installation"),
        {
            "id": _none("always 1"),
            "generation": _none("how often it was restored from a backup"),
            "looked": _none("up to which of those the rooms were looked at"),
            "journal_seq": _none("the highest number known of the journal, whose day may be gone"),
            "outbox_seq": _none("the same of the outbox"),
            "life": _none("how long it has lived, and how far the numbers had come when"),
        },
    ),
    Table(
        "lease", "who is at work on the database", While("the installation"),
        {
            "shard": _none("the part of the work"),
            "owner": _none("a random word of the running process"),
            "epoch": _EPOCH,
            "until": _none("nothing: earlier versions wrote it"),
        },
    ),
    Table(
        "journal", "what the homeserver gave us, so that no event is lost", _RECEIVED,
        {
            "day": _DAY, "seq": _SEQ, "epoch": _EPOCH,
            "source": _none("how it came to us"),
            "received_at": _none("when it came"),
            "body": _content("a transaction of the homeserver, whole"),
            "event_keys": _none("hashes of event ids with a key of ours, to know a repetition"),
            "progress": _none("which of its events are done"),
            "done": _none("whether all are"),
            "repeated": _none("how many of its events had come before"),
            "delivered": _none("how many were handled"),
            "parked": _none("how many were put aside"),
            "dropped": _none("how many a rule leaves out"),
            "marked_at": _none("when its progress was written"),
        },
    ),
    Table(
        "item", "events that did not go through at once", _RECEIVED,
        {
            "day": _DAY, "seq": _SEQ, "epoch": _EPOCH, "state": _STATE, "tries": _TRIES,
            "index": _none("the event's place in its transaction"),
            "consumer": _id("what it was for: a bridged chat, a bot in a room"),
            "reason": _REASON, "detail": _DETAIL,
            "event": _content("the event as it was received"),
            "since": _SINCE,
        },
    ),
    Table(
        "outbox", "what must go into Matrix, so that it arrives once", _RECEIVED,
        {
            "day": _DAY, "seq": _SEQ, "epoch": _EPOCH, "state": _STATE,
            "received_at": _none("when it was to be sent"),
            "room": _ROOM,
            "sender": _id("the ghost or bot who says it"),
            "kind": _none("message, membership and the like"),
            "transaction_id": _none("a hash with a key of ours, or a random word"),
            "content": _content("what is said"),
            "wire_type": _none("the event type as sent"),
            "wire": _content("the event as sent"),
            "portal": _id("the bridged chat"),
            "remote_id": _id("the message on the network"),
            "part": _none("which part of that message"),
            "event_id": _id("the event that it became"),
            "sent_at": _none("when the homeserver had it"),
            "reason": _REASON, "detail": _DETAIL,
        },
        subject="sender",
        erased=Stays("since it is on its way, or how a repetition is known"),
    ),
    Table(
        "tally", "how many events came, and what became of them, as numbers only",
        After("counted_at", days=400),
        {
            "day": _none("the UTC day they were received"),
            "direction": _none("from Matrix to networks and bots, or into Matrix"),
            "received": _none("how many came"),
            "delivered": _none("how many arrived"),
            "parked": _none("how many were put aside"),
            "dropped": _none("how many a rule leaves out"),
            "in_hand": _none("how many wait; of a day that is gone, how many were forgotten"),
            "counted_at": _none("when they were counted last"),
        },
    ),
    Table(
        "portal", "which room is tied to which chat", While("the room is bridged"),
        {
            "id": _none("a number"), "instance": _INSTANCE, "room": _ROOM,
            "chat": _id("the chat on the network"),
            "chat_name": _id("the chat's name for people"),
            "former_rooms": _id("the rooms that were replaced, which it was tied to before"),
            "receiver": _id("the login whose private chat it is"),
            "created_by": _id("who bridged the room"),
            "paused": _none("whether nothing crosses"),
            "uncertain": _none("what is done with a message that may have been sent"),
            "telling": _none("how a sender is told of it"),
            "follow": _none("what the room takes over from the chat"),
            "listed": _none("whether others may know of the chat"),
            "open": _none("whether anybody may come into the chat"),
            "closed": _none("whether we closed the room because the chat is closed"),
            "quieted": _none("whether we let only those speak who are heard in the chat"),
            "shut_out": _none("whether the room was told that the relay is out of the chat"),
            "puppets": _none("whose account speaks for people there"),
            "relay_name": _none("how a relay names people there"),
            "relay": _id("the login that speaks for those who have none"),
            "left_out": _none("up to which event what waited too long is left out"),
            "members": _none("whose ghosts are in the room"),
            "privacy": _none("whether only those read who are seen in the chat"),
            "blocked": _none("whether somebody reads who is not seen there"),
            "made_at": _SINCE,
        },
        subject="created_by",
        erased=Stays("since the room is of others, too", named=False),
    ),
    Table(
        "message", "which event is which remote message, for edits, replies and reactions",
        _RECEIVED,
        {
            "day": _DAY,
            "portal": _id("the bridged chat"),
            "event_id": _id("the Matrix event"),
            "remote_id": _id("the message on the network"),
            "part": _none("which part of that message"),
            "sender": _id("who wrote it: a Matrix user or a ghost"),
            "room": _id("the Matrix room in which the event is"),
            "kind": _none("message or reaction"),
            "received_at": _none("when it came to us"),
            "laned_at": _none("when its turn could come"),
            "sent_at": _none("when it was written out"),
            "confirmed_at": _none("when the other side had it"),
        },
        subject="sender",
        erased=Stays("since by it edits and deletions cross"),
    ),
    Table(
        "login", "who speaks on which network", While("the login"),
        {
            "id": _none("a number"), "instance": _INSTANCE, "subject": _SUBJECT,
            "kind": _none("made by itself, a person's account, or the relay"),
            "made_at": _SINCE,
            "name": _id("what a person's account is called on the network"),
            "preferred": _none("whether it is the one of several that speaks"),
        },
        subject="subject",
    ),
    Table(
        "room", "which rooms are encrypted, so that nothing goes there in clear; how far we saw",
        While("we are in the room; once encrypted, the installation"),
        {
            "room": _ROOM, "encrypted_since": _SINCE,
            "newest": _none("a keyed hash of the newest event seen"),
        },
    ),
    Table(
        "bot_room", "where our bots are", While("the bot is in the room"),
        {
            "user_id": _id("the bot"), "room": _ROOM, "since": _SINCE,
            "direct_with": _id("the person whose direct chat it is"),
        },
        subject="direct_with",
        erased=Stays("until the person or the bot leaves the chat"),
    ),
    Table(
        "status_room", "where operators are told of troubles", While("the installation"),
        {"id": _none("always 1"), "room": _ROOM, "invited": _id("the admins who were invited")},
    ),
    Table(
        "trouble", "what the status room shows", While("the trouble"),
        {
            "key": _id("what it is about: a network, a chat, the disk"),
            "sentence": _id("what is wrong"), "since": _SINCE,
            "over_at": _none("when it was over"),
            "said": _id("the line as it stands in the room"),
            "revision": _none("how often it was changed"),
            "day": _none("the UTC day of its message"),
            "transaction_id": _none("a hash with a key of ours"),
            "event_id": _id("its message"),
            "seen_by": _id("the admin who has seen it"),
        },
        subject="seen_by",
        erased=Stays("until the trouble is over"),
    ),
    Table(
        "opt_out", "who does not want to be bridged", While("the person wants it so"),
        {"subject": _SUBJECT, "portal": _id("the bridged chat; 0 is all"), "since": _SINCE},
        subject="subject",
        erased=Stays("since without it the person would be bridged again; optin ends it"),
    ),
    Table(
        "consent", "that those who run a chat were asked to let it be bridged",
        After("until"),
        {
            "instance": _INSTANCE, "subject": _id("who asks"), "room": _ROOM,
            "chat": _id("the chat"), "chat_name": _id("what it is called"),
            "room_name": _id("what the room is called"),
            "state": _none("asked, unanswered or refused"),
            "asked_at": _SINCE, "answer_by": _none("how long an answer counts"),
            "until": _none("when they may be asked again"),
        },
        subject="subject",
        erased=Stays("so that those who run the chat are not asked again"),
    ),
    Table(
        "chat_block", "of whom those who run a chat take nothing",
        While("they want it so"),
        {
            "instance": _INSTANCE, "chat": _id("the chat"), "since": _SINCE,
            "subject": _id("the person, or the whole homeserver"),
        },
        subject="subject",
        erased=Stays("since it is the word of those who run the chat"),
    ),
    Table(
        "policy_list", "which policy lists rooms follow", While("the room follows it"),
        {
            "portal": _none("the bridged room's number"), "room": _id("where the list stands"),
            "subject": _id("who asked for it"), "since": _SINCE,
            "applied": _none("whether it is in force"),
            "agreed": _none("whether also where it is about very many"),
        },
        subject="subject",
        erased=Stays("since it is a rule of the room"),
    ),
    Table(
        "policy_ban", "bans on chats that came of policy lists, to take them back",
        While("the list says so"),
        {
            "portal": _none("the bridged room's number"), "since": _SINCE,
            "pattern": _id("who is banned there: an id, which may hold * and ?"),
        },
    ),
    Table(
        "told", "what a person was told once, so as not to say it again",
        While("the installation"),
        {"subject": _SUBJECT, "what": _none("a fixed word, a number, a hash"), "at": _SINCE},
        subject="subject",
    ),
    Table(
        "double_puppet", "who lets us speak from their own Matrix account",
        While("the person wants it so"),
        {
            "subject": _SUBJECT, "since": _SINCE,
            "way": _none("by our own token, or by one that the person gave"),
        },
        subject="subject",
    ),
    Table(
        "remote_account", "whose the accounts on networks are, to let their owners speak",
        While("the login"),
        {
            "instance": _INSTANCE, "subject": _SUBJECT,
            "remote_id": _id("the account on the network"),
        },
        subject="subject",
    ),
    Table(
        "device", "under which device our users send, so that a repetition is known",
        While("the installation"),
        {
            "user_id": _id("a ghost or bot"),
            "send_device": _none("a random word"),
            "crypto_device": _none("a random word"),
        },
        subject="user_id",
    ),
    Table(
        "long_id", "what a shortened Matrix id stands for", While("the installation"),
        {
            "user_id": _id("the ghost, or the alias of a chat"), "instance": _INSTANCE,
            "remote_id": _id("the person or the chat on the network"),
        },
        subject="user_id",
    ),
    Table(
        "module_store",
        "what modules keep, which rooms the settings declare, and who waits for a copy",
        After("until"),
        {
            "instance": _INSTANCE, "subject": _SUBJECT, "room": _ROOM,
            "key": _id("the module's name for it"),
            "value": Label(Holds.CONTENT, "whatever the module keeps"),
            "until": _none("when it is forgotten; empty: when the module says so"),
        },
        subject="subject",
        erased=Goes(but="what a module needs against abuse, for a time (`outlasts`)"),
    ),
    Table(
        "timer", "moments that bots wait for", After("at", days=RECEIVED_DAYS),
        {
            "id": _none("a random number"), "instance": _INSTANCE, "subject": _SUBJECT,
            "room": _ROOM, "state": _STATE, "tries": _TRIES, "epoch": _EPOCH,
            "key": _id("the bot's name for it"),
            "at": _none("when it is due"),
            "due": _none("when it is tried"),
            "note": _content("what the bot wants to know then"),
            "reason": _REASON, "detail": _DETAIL,
        },
        subject="subject",
    ),
    Table(
        "deleted_message", "what was deleted or replaced, so that links to what it showed end",
        After("until"),
        {
            "mark": _none("a hash of its event id and room with a key of ours"),
            "until": _none("when no such link works any more"),
        },
    ),
    Table(
        "acceptance", "who accepted which terms", While("the account"),
        {
            "subject": _SUBJECT,
            "document": _none("the document"), "version": _none("its version"),
            "language": _none("the language it was read in"), "accepted_at": _SINCE,
        },
        subject="subject",
    ),
    Table(
        "access", "who configured something from where, to look into abuse", _ACCESS,
        {
            "day": _DAY, "subject": _SUBJECT,
            "address": Label(Holds.IP, "the address"),
            "agent": Label(Holds.IP, "the browser"),
            "at": _none("when"),
        },
        subject="subject",
        erased=Stays("to look into abuse"),
    ),
    Table(
        "audit", "who changed what, each row with the hash of the one before",
        While("the installation"),
        {
            "seq": _none("the row's number, without gaps"), "at": _none("when"),
            "actor": _id("who did it"), "subject": _SUBJECT,
            "action": _none("what was done, one of a closed set"),
            "target": _id("to which chat and room, or what else"),
            "detail": _none("nothing: always empty"),
            "previous": _none("the hash of the row before"),
            "hash": _none("the hash of this row, with a key of ours"),
        },
        subject="subject",
        erased=Stays("since it says who did what, that it was erased, too"),
    ),
    Table(
        "subject_key", "the key of each person's credentials", While("the account"),
        {
            "subject": _SUBJECT,
            "wrapped": Label(
                Holds.SECRET, "the key and the list of valid records, themselves sealed",
                sealed=True,
            ),
            "key_version": _none("which master key seals it"),
        },
        subject="subject",
    ),
    Table(
        "instance_key", "the key of each module's own credentials", While("the module"),
        {
            "instance": _INSTANCE,
            "wrapped": Label(
                Holds.SECRET, "the key and the list of valid records, themselves sealed",
                sealed=True,
            ),
            "key_version": _none("which master key seals it"),
        },
    ),
    Table(
        "vault", "credentials", While("the login"),
        {
            "id": _none("a number"), "subject": _SUBJECT, "instance": _INSTANCE,
            "record": _none("what it is for"),
            "login": _id("the login that it opens"),
            "key_version": _none("which key seals it"),
            "version": _none("how many records its owner had stored with it"),
            "sealed": Label(Holds.SECRET, "a password, a token or a key", sealed=True),
        },
        subject="subject",
    ),
    Table(
        "token", "who is signed in at the web", After("until"),
        {
            "hash": _none("the SHA-256 of a random token"),
            "id": _none("a random number by which it is listed"),
            "subject": _SUBJECT,
            "scope": _none("what it is good for"),
            "made_at": _none("when the person signed in"),
            "used_at": _none("when it was used last, to the minute"),
            "idle": _none("after how many unused seconds it ends"),
            "ends_at": _none("when it ends in any case"),
            "until": _none("when it ends if it is not used"),
        },
        subject="subject",
    ),
    Table(
        "link", "one-time links to the web that were not opened yet", After("until"),
        {
            "hash": _none("the SHA-256 of a random token"),
            "subject": _SUBJECT,
            "purpose": _none("what it opens"),
            "until": _none("when it ends"),
        },
        subject="subject",
    ),
    Table(
        "openid_used", "which tokens of homeservers were shown to us, so that none counts twice",
        After("until"),
        {
            "hash": _none("the SHA-256 of a token"),
            "until": _none("when that is forgotten, long after it has ended"),
        },
    ),
)  # fmt: skip


def tables_by_day() -> Mapping[str, ByDay]:
    """The tables that are partitioned by day."""
    return {table.name: table.keep for table in DATA_MAP if isinstance(table.keep, ByDay)}


def tables_by_moment() -> Mapping[str, After]:
    """The tables whose rows say themselves when they go."""
    return {table.name: table.keep for table in DATA_MAP if isinstance(table.keep, After)}
