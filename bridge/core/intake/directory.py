"""Answers to the homeserver's questions: is there such a user, such a room, such a network."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bridge.core.host.finding import find_user
from bridge.core.host.instances import Instance
from bridge.core.portals.plumbing import Plumbing
from bridge.matrix.intents import Intents
from bridge.matrix.namespaces import Namespaces
from bridge.sdk.errors import DeliveryError
from bridge.sdk.ids import InstanceId, UserId
from bridge.sdk.module import Directory, FindsChats

log = logging.getLogger(__name__)

NETWORK = "network"
"""The field of third-party lookups that holds an instance's name."""
_INSTANCE_NAME = "[a-z][a-z0-9]{0,15}"
_QUERY_SECONDS = 4.0
"""For each network: the homeserver waits little longer for what all of them find."""

_Found = dict[str, Any]


class Answers:
    """What the receiver asks on the homeserver's behalf (application service API, queries)."""

    def __init__(self, plumbing: Plumbing, intents: Intents, namespaces: Namespaces) -> None:
        self._plumbing = plumbing
        self._intents = intents
        self._namespaces = namespaces

    async def knows_user(self, user_id: str) -> bool:
        """Whether the user is one that we can be; it exists before we say yes."""
        ghost = _in_text(self._namespaces.parse_ghost(user_id))
        if ghost is not None:
            instance, remote_id = ghost
            network = self._plumbing.instances.get(instance)
            if network is None:
                return False
            try:
                remote = await find_user(network, remote_id, _QUERY_SECONDS)
            except DeliveryError:
                return False
            user = self._namespaces.ghost(instance, remote.id)
            if user != user_id:
                return False
            await self._intents.ensure_registered(user, remote.name)
            return True
        if not self._namespaces.is_bot(user_id):
            return False
        await self._intents.ensure_registered(UserId(user_id))
        return True

    async def knows_alias(self, alias: str) -> bool:
        """Whether the alias is a chat's; room and alias exist before we say yes."""
        parsed = _in_text(self._namespaces.parse_alias(alias))
        instance = self._plumbing.instances.get(parsed[0]) if parsed else None
        if parsed is None or instance is None:
            return False
        try:
            await self._plumbing.open_room(instance, parsed[1], alias)
        except DeliveryError as error:
            log.info("an alias is not given: %s", error, extra={"event": "alias_refused"})
            return False
        return True

    def protocol(self, name: str) -> dict[str, Any] | None:
        """Describe a third-party protocol, None if no instance speaks it."""
        spoken = self._speakers(name)
        if not spoken:
            return None
        network, first = next(iter(spoken.values()))
        patterns = {NETWORK: (_INSTANCE_NAME, min(spoken)), **first.patterns}
        return {
            # The higher grouping stands first; clients take it from the instance that is chosen.
            "user_fields": [NETWORK, first.user_field],
            "location_fields": [NETWORK, first.chat_field],
            # The specification wants the key, also of a network that has no picture.
            "icon": network.connector.info.icon,
            "field_types": {
                field: {"regexp": pattern, "placeholder": placeholder}
                for field, (pattern, placeholder) in patterns.items()
            },
            "instances": [
                {
                    "desc": instance.name, "network_id": instance.name,
                    "fields": {NETWORK: instance.name},
                }
                for instance, _ in spoken.values()
            ],
        }  # fmt: skip

    async def find_users(self, protocol: str, fields: Mapping[str, str]) -> list[dict[str, Any]]:
        """Matrix ids of a person on the instance that is named, else on each of the protocol."""

        async def find(instance: Instance, directory: Directory) -> _Found | None:
            text = fields.get(directory.user_field)
            if not text:
                return None
            remote = await find_user(instance, text)
            return {
                "userid": self._namespaces.ghost(instance.name, remote.id),
                "protocol": protocol,
                "fields": {NETWORK: instance.name, directory.user_field: remote.name},
            }

        return await self._find(protocol, fields, find)

    async def find_locations(
        self, protocol: str, fields: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """Aliases of a chat on the instance that is named, else on each of the protocol.

        None that would lead nobody in: where others must agree first, or invite.
        """

        async def find(instance: Instance, directory: Directory) -> _Found | None:
            text = fields.get(directory.chat_field)
            if not text:
                return None
            chat = await self._plumbing.read_chat(instance, text)
            if not await self._plumbing.may_open(instance, chat):
                return None
            return {
                "alias": self._namespaces.alias(instance.name, chat.id),
                "protocol": protocol,
                "fields": {NETWORK: instance.name, directory.chat_field: chat.name},
            }

        return await self._find(protocol, fields, find)

    async def _find(
        self,
        protocol: str,
        fields: Mapping[str, str],
        find: Callable[[Instance, Directory], Awaitable[_Found | None]],
    ) -> list[_Found]:
        """What ``find`` gives of the instances that are meant: one that fails or does not answer
        in time keeps nothing of the others back."""

        async def ask(instance: Instance, directory: Directory) -> _Found | None:
            try:
                async with asyncio.timeout(_QUERY_SECONDS):
                    return await find(instance, directory)
            except (DeliveryError, TimeoutError):
                return None
            except Exception:
                # What nobody foresaw is this network's trouble, and no other's.
                log.exception("a look-up failed", extra={"event": "query_failed"})
                return None

        named = fields.get(NETWORK)
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(ask(*one))
                for name, one in self._speakers(protocol).items()
                if named in {None, "", name}
            ]
        return [found for task in asked if (found := task.result()) is not None]

    async def read_user(self, user_id: str) -> list[dict[str, Any]]:
        """The person behind a Matrix id of ours."""
        ghost = _in_text(self._namespaces.parse_ghost(user_id))
        directory = self._directory_of(ghost[0]) if ghost else None
        if ghost is None or directory is None:
            return []
        fields = {NETWORK: ghost[0], directory.user_field: ghost[1]}
        return [{"userid": user_id, "protocol": directory.protocol, "fields": fields}]

    async def read_location(self, alias: str) -> list[dict[str, Any]]:
        """The chat behind an alias of ours."""
        parsed = _in_text(self._namespaces.parse_alias(alias))
        directory = self._directory_of(parsed[0]) if parsed else None
        if parsed is None or directory is None:
            return []
        fields = {NETWORK: parsed[0], directory.chat_field: parsed[1]}
        return [{"alias": alias, "protocol": directory.protocol, "fields": fields}]

    def _directory_of(self, instance: InstanceId) -> Directory | None:
        network = self._plumbing.instances.get(instance)
        if network is None or not isinstance(network.connector, FindsChats):
            return None
        return network.connector.directory

    def _speakers(self, protocol: str) -> dict[str, tuple[Instance, Directory]]:
        return {
            name: (instance, instance.connector.directory)
            for name, instance in self._plumbing.instances.items()
            if isinstance(instance.connector, FindsChats)
            and instance.connector.directory.protocol == protocol
        }


def _in_text(found: tuple[InstanceId, str] | None) -> tuple[InstanceId, str] | None:
    """What is found, None if its remote id holds half a surrogate pair: no network has that, and
    no answer can."""
    if found is None or found[1].encode("utf-8", "replace").decode() != found[1]:
        return None
    return found
