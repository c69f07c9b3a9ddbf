"""What each command of the command line does. Each returns its exit code."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from notifyd.core.events import Rejected, Rejection, Rule, encode_event, encode_rule, parse_entry
from notifyd.daemon import (
    auth_database,
    auth_project,
    bus,
    config,
    logs,
    preflight,
    service,
)

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from notifyd.daemon.config import Config

log = structlog.stdlib.get_logger()


def run(arguments: Namespace) -> int:
    """Run the daemon until it is told to stop."""

    def read() -> tuple[Config, list[str]]:
        loaded, warnings = config.load(arguments.config, environ)
        complete = preflight.resolve(loaded)
        return complete, warnings + preflight.cautions(complete)

    environ = dict(os.environ)
    resolved, warnings = read()
    # After django.setup(), which configures logging by the site's settings.
    chosen = resolved.log
    logs.configure(chosen.level, chosen.format, levels=chosen.levels, fold=chosen.fold)
    for warning in warnings:
        log.warning("config.warned", detail=warning)
    try:
        asyncio.run(_serve(resolved, read, take_over=arguments.take_over))
    except ExceptionGroup as group:
        words = "; ".join(f"{type(error).__name__}: {error}" for error in group.exceptions)
        log.critical("service.failed", error=words, traceback=traceback.format_exc())
        return 1
    return 0


async def _serve(
    resolved: Config, read: Callable[[], tuple[Config, list[str]]], *, take_over: bool
) -> None:
    await service.Service(resolved, read, take_over=take_over).run()


def check(arguments: Namespace) -> int:
    """Validate the configuration, and reach what it names."""
    loaded, warnings = config.load(arguments.config, os.environ)
    for warning in warnings:
        print(f"warning: {warning}")
    resolved = preflight.resolve(loaded)
    for warning in preflight.cautions(resolved):
        print(f"warning: {warning}")
    print("ok: configuration and site settings")
    faults = {
        "Redis": asyncio.run(bus.fault(resolved.redis.url, timeout=resolved.redis.timeout)),
        "database": auth_database.database_fault(),
    }
    for name, fault in faults.items():
        print(f"ok: {name} answers" if fault is None else f"fault: {name}: {fault}")
    return 1 if any(faults.values()) else 0


def show_config(arguments: Namespace) -> int:
    """Print the effective configuration, secrets hidden."""
    loaded, warnings = config.load(arguments.config, os.environ)
    for warning in warnings:
        print(f"notifyd: warning: {warning}", file=sys.stderr)
    try:
        loaded = preflight.resolve(loaded)
    except config.ConfigError as error:
        print(f"notifyd: without the site's own part: {error}", file=sys.stderr)
    print(config.render(loaded), end="")
    return 0


def publish(arguments: Namespace) -> int:
    """Write an event to the bus and print its id."""
    text = sys.stdin.read() if arguments.event == "-" else arguments.event
    payload = encode_event(_object(text))
    rule = Rule(
        users=frozenset(arguments.user),
        groups=frozenset(arguments.group),
        permissions=frozenset(arguments.permission),
        content_types=frozenset(arguments.content_type),
        everyone=arguments.everyone,
    )
    to = None if rule == Rule() else encode_rule(rule)
    if to is None:
        # Then the event has to say who sees it, or every daemon would reject it.
        parse_entry({b"event": payload}, None)
    loaded, _ = config.load(arguments.config, os.environ)
    redis = preflight.resolve(loaded).redis
    id_ = asyncio.run(
        bus.publish(
            redis.url,
            prefix=redis.prefix,
            payload=payload,
            rule=to,
            maxlen=redis.maxlen,
            traceparent=arguments.traceparent,
        )
    )
    print(id_)
    return 0


def _object(text: str) -> dict[str, Any]:
    try:
        event = json.loads(text)
    except ValueError as error:
        raise Rejected(Rejection.NOT_JSON, f"the event is not JSON: {error}") from None
    if not isinstance(event, dict):
        raise Rejected(Rejection.NOT_OBJECT, "the event is not a JSON object")
    return event


def token(arguments: Namespace) -> int:
    """Print a token for a user."""
    loaded, _ = config.load(arguments.config, os.environ)
    preflight.resolve(loaded)
    # That waits for a database no longer than told, which the query below would not.
    if fault := auth_database.database_fault():
        raise auth_project.SetupError(f"The users can't be read: {fault}")
    print(auth_project.create_token(arguments.user, scoped=not arguments.unscoped))
    return 0


def demo(arguments: Namespace) -> int:
    """Open the demo until Ctrl-C, or check it."""
    # Not at the top: a daemon, which needs the commands above, does without all of this.
    from notifyd.demo import Demo, DemoError, default_state  # noqa: PLC0415 - see above

    opened = Demo(
        state=Path(arguments.state).absolute() if arguments.state else default_state(os.environ),
        site_port=arguments.site_port,
        port=arguments.port,
        admin_port=arguments.admin_port,
        check=arguments.check,
    )
    try:
        return opened.run()
    except DemoError as error:
        print(f"notifyd: {error}", file=sys.stderr)
        return 1
