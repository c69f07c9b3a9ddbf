"""What each command of the command line does. Each returns its exit code."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from notifyd.core.events import Rejected, Rejection, Rule, encode_event, encode_rule, parse_entry
from notifyd.daemon import (
    auth_database,
    auth_project,
    bus,
    config,
    control,
    logs,
    preflight,
    service,
)

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping

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


def status(arguments: Namespace) -> int:
    """Show what the running daemon is doing."""
    answer = asyncio.run(control.ask(_control_path(arguments), "status"))
    if arguments.json:
        print(json.dumps(answer, indent=2))
    else:
        rows = _rows(answer)
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            print(f"{name:<{width}}  {value}")
    return 0


def _rows(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a line for each entry, with what belongs together in one."""
    return [(name.replace("_", " "), _words(value)) for name, value in answer.items()]


def _words(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{name} {_words(each)}" for name, each in value.items()) or "-"
        case list():
            return ", ".join(map(str, value)) or "-"
        case bool():
            return "yes" if value else "no"
        case None:
            return "-"
        case _:
            return str(value)


def tail(arguments: Namespace) -> int:
    """Print events as they pass on the bus."""
    loaded, _ = config.load(arguments.config, os.environ)
    resolved = preflight.resolve(loaded)
    # What is wrong with the bus goes to standard error, beside the events.
    logs.configure("warning")
    asyncio.run(_tail(resolved))
    return 0


async def _tail(resolved: Config) -> None:
    redis = resolved.redis
    async for id_, fields in bus.tail(redis.url, prefix=redis.prefix, channel=redis.channel):
        line = {"id": id_} if id_ is not None else {"channel": redis.channel}
        line |= {name.decode(errors="replace"): _read(value) for name, value in fields.items()}
        print(json.dumps(line), flush=True)


def _read(value: bytes) -> Any:
    """Return a field's JSON; what is none is shown as it is, since it is what one looks for."""
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return value.decode(errors="replace")


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


def reload(arguments: Namespace) -> int:
    """Have the running daemon read its configuration anew."""
    answer = asyncio.run(control.ask(_control_path(arguments), "reload"))
    print(f"changed: {', '.join(answer['changed']) or 'nothing'}")
    if answer["waiting"]:
        print(f"for a restart, which disconnects nobody: {', '.join(answer['waiting'])}")
    return 0


def _control_path(arguments: Namespace) -> str:
    try:
        loaded, _ = config.load(arguments.config, os.environ)
    except config.ConfigError:
        # The daemon runs with an earlier one, and says best what is wrong with this.
        loaded = config.Config()
    return (
        loaded.control.socket
        or os.environ.get("NOTIFYD_CONTROL_SOCKET")
        or control.find(os.environ)
    )


def disconnect(arguments: Namespace) -> int:
    """Close the connections of users, at every daemon."""
    path = _control_path(arguments)
    answer = asyncio.run(control.ask(path, "disconnect", users=arguments.user))
    print(f"connections closed at this daemon: {answer['connections']}")
    print(f"other daemons read of it in the stream: {answer['id']}")
    return 0


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
