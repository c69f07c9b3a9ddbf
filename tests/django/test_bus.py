from __future__ import annotations

import itertools
import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.test.utils import override_settings
from waiting import wait_until

from notifyd.daemon.bus_stream import keys
from notifyd.django import bus
from notifyd.django.bus import (
    Breaker,
    PublishError,
    PublishUnknown,
    Reason,
    connect,
    stream_key,
)
from notifyd.django.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers import RedisServer

    from tests.django.conftest import Stream
