"""matrix-appservice-irc: what its database says, in words that importers share."""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bridge.importing.found import Found, FoundPerson, FoundRoom, mapping_of, text_of
from bridge.model import Follow
from bridge.sdk.errors import TrestleError
from bridge.sdk.ids import RoomId, UserId
from bridge.sdk.secret import Secret
from bridge.storage.appserviceirc import ConfigRow, Rows
from bridge.wholefile import read_whole

# SHA-1 is what Node's publicEncrypt takes, and OAEP does not depend on its collisions.
_PADDING = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303
_MADE_BY_IT = {"alias", "join"}


class PasswordKey:
    """What its passwords open with (``passwordEncryptionKeyPath``)."""

    def __init__(self, key: RSAPrivateKey) -> None:
        self._key = key

    @classmethod
    def read(cls, file: Path) -> "PasswordKey":
        """Read the file. Raises ``TrestleError`` if it is no such key."""
        try:
            key = serialization.load_pem_private_key(read_whole(file)[0], None)
        except OSError as error:
            raise TrestleError(f"{file} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, RSAPrivateKey):
            raise TrestleError(
                f"{file} is no RSA key; give the file that the old bridge's config names under "
                "passwordEncryptionKeyPath"
            )
        return cls(key)

    def open(self, sealed: str) -> Secret:
        """Give a password. Raises ``ValueError`` if it was sealed with another key."""
        try:
            text = self._key.decrypt(base64.b64decode(sealed, validate=True), _PADDING).decode()
        except binascii.Error as error:
            raise ValueError("it is not base64") from error
        salt, space, password = text.partition(" ")  # The password may hold spaces itself.
        if not (salt and space and password):
            raise ValueError("there is no password behind the salt")
        return Secret(password)


ChannelKeys: TypeAlias = Mapping[tuple[str, str], Secret]
"""By domain and channel, in small letters."""


def read_channel_keys(file: Path) -> ChannelKeys:
    """The keys of channels, which stand in its config.yaml. Raises ``TrestleError``."""
    try:
        document = YAML(typ="safe", pure=True).load(read_whole(file)[0].decode())
    except OSError as error:
        raise TrestleError(f"{file} cannot be read: {error.strerror}") from error
    except (YAMLError, ValueError) as error:  # Their texts quote the file, keys and all.
        raise TrestleError(f"{file} is not YAML") from error
    servers = mapping_of(mapping_of(document, "ircService"), "servers")
    if not servers:
        raise TrestleError(f"{file} has no ircService.servers: give the old bridge's config.yaml")
    found = {}
    for domain, server in servers.items():
        for channel, mapped in mapping_of(server, "mappings").items():
            # Older ones have the rooms alone there, and no key.
            key = text_of(mapped, "key") if isinstance(mapped, dict) else ""
            if key:
                found[str(domain).lower(), str(channel).lower()] = Secret(key)
    return found


def sort_rows(
    rows: Rows, key: PasswordKey | None, *, sasl: bool, channel_keys: ChannelKeys, bot: UserId
) -> Found:
    """Say what there is; ``sasl``: the old bridge signs people in so, with their passwords.

    ``bot``: our own, to whom people talk instead.
    """
    found = Found(unwanted=[UserId(user) for user in sorted(rows.deactivated)])
    for room in rows.rooms:
        if room.is_channel:
            found.rooms.append(FoundRoom(
                network=room.domain, chat=room.channel, room=RoomId(room.room),
                follow=Follow.ALL if room.origin in _MADE_BY_IT else Follow.TOPIC,
                key=channel_keys.get((room.domain.lower(), room.channel.lower())),
            ))  # fmt: skip
    for user, nick, domain in rows.private_chats:
        found.left.append(
            f"the private chat of {user} with {nick} on {domain}: it begins anew with the first "
            "message"
        )
    found.left += [
        f"the chat of {user} with the old bridge's bot ({room}): say `help` to {bot} instead"
        for user, room in rows.bot_chats if user not in rows.deactivated
    ]  # fmt: skip
    for row in rows.configs:
        if row.user in rows.deactivated:
            found.left.append(f"{row.user} on {row.domain}: deactivated in the old bridge")
        else:
            found.people.append(_person(row, key, found, sasl=sasl))
    found.left += [f"{whose}: what was chosen there, which is no JSON" for whose in rows.unread]
    found.left += _choices(rows)
    return found


def _choices(rows: Rows) -> list[str]:
    """What people and rooms chose there that is chosen elsewhere here."""
    left = []
    for user, features in rows.features:
        chosen = ", ".join(
            f"{name} {'on' if value else 'off'}" for name, value in sorted(features.items())
            if isinstance(value, bool)
        )  # fmt: skip
        if chosen and user not in rows.deactivated:
            left.append(
                f"{user}: the features chosen there ({chosen}); here nobody chooses them, what is "
                "notified is chosen in the Matrix client"
            )
    if rows.listed:
        left.append(
            f"the list of {rows.listed} rooms that are to be found: here a room is found under "
            "its network while the channel is open, if `set follow all` is said in it or it is "
            "published in the homeserver's own directory"
        )
    return left


def _person(row: ConfigRow, key: PasswordKey | None, found: Found, *, sasl: bool) -> FoundPerson:
    nick, username = text_of(row.config, "nick"), text_of(row.config, "username")
    kept = {
        name: Secret(value) for name, value in (("nick", nick), ("username", username)) if value
    }  # fmt: skip
    whose = f"{row.user} on {row.domain}"
    if row.password and key is None:
        found.left.append(f"{whose}: the password; --password-key opens it")
    elif row.password and sasl and not (username or nick):
        found.left.append(f"{whose}: the password, since no account is named with it")
    elif row.password and key is not None:
        try:
            password = key.open(row.password)
        except ValueError:
            found.left.append(f"{whose}: the password, which --password-key does not open")
        else:
            signs = {"account": Secret(username or nick), "password": password}
            kept |= signs if sasl else {"server_password": password}
    if text_of(row.config, "ipv6"):
        found.left.append(f"{whose}: the address {row.config['ipv6']}; ipv6_prefix gives another")
    return FoundPerson(network=row.domain, owner=UserId(row.user), kept=kept)
