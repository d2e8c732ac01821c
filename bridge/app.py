"""Builds every object once, by hand; runs them in one task group; stops in reverse order."""

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson

from bridge.config import check_options
from bridge.core.bots import BotHost, ModuleSeat, Seat, Stage
from bridge.core.catalogue import find_module
from bridge.core.commands import MainBot, MainSeat
from bridge.core.directory import Answers
from bridge.core.doorway import House
from bridge.core.inflight import InFlight
from bridge.core.instances import Instance
from bridge.core.intake import Intake
from bridge.core.permissions import Permissions
from bridge.core.plumbing import Plumbing
from bridge.core.portals import Portals
from bridge.core.privatechat import PrivateChats
from bridge.core.progress import Marker
from bridge.core.router import Lane, Patience, Router
from bridge.core.sender import Sender
from bridge.core.watch import Watcher
from bridge.core.watchdog import Watchdog
from bridge.matrix.client import HomeserverClient
from bridge.matrix.intents import Intents
from bridge.matrix.namespaces import Namespaces
from bridge.matrix.receiver import Receiver, parse_transaction
from bridge.model import Clock, SystemClock
from bridge.ops import OpsServer
from bridge.sdk.errors import TrestleError
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.sdk.module import Bot
from bridge.settings import Settings
from bridge.storage.accounts import Accounts
from bridge.storage.items import Items
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys, EventKeys
from bridge.storage.modulestore import ModuleStores
from bridge.storage.outbox import Outbox
from bridge.storage.pool import Database
from bridge.storage.portals import PortalStore
from bridge.storage.retention import Retention
from bridge.telemetry import Telemetry

log = logging.getLogger(__name__)
