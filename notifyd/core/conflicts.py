"""Options against each other: what makes no sense together, and what is dangerous."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from notifyd.core.addresses import parse_address
from notifyd.core.literals import quote
from notifyd.core.option_table import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from notifyd.core.options import Config


# Of use with django.database only.
_WITH_DATABASE = (
    "django.secret_key",
    "django.secret_key_fallbacks",
    "django.user_table",
    "django.user_model",
    "django.user_pk",
    "django.user_name",
)


class Rule(NamedTuple):
    """The options it is about, the one to blame first, and what is wrong with them, or None."""

    keys: tuple[str, ...]
    check: Callable[[Config], str | None]


def apply(rules: Iterable[Rule], config: Config, unclear: Container[str]) -> list[str]:
    """Return a sentence for each broken rule; none for rules about options that are `unclear`."""
    sentences = []
    for rule in rules:
        words = None if any(key in unclear for key in rule.keys) else rule.check(config)
        if words is not None:
            blamed = rule.keys[0]
            value = quote(OPTIONS[blamed].of(config))
            source = config.sources.get(blamed, "default")
            sentences.append(f"{blamed} = {value} ({source}) {words}.")
    return sentences


def _ping(config: Config) -> str | None:
    server = config.server
    if server.ping_timeout < server.ping_interval:
        return None
    return f"is not before the next ping; make it less than ping_interval ({server.ping_interval})"


def _statement(config: Config) -> str | None:
    most = config.auth.timeout
    if config.auth.statement_timeout <= most:
        return None
    return f"is more than the whole authentication has; make it at most auth.timeout ({most})"


def _buffers(config: Config) -> str | None:
    server = config.server
    for name in ("buffer", "bare_buffer"):
        if getattr(server, name) > server.total_buffer:
            return f"is less than one client may owe; raise it or lower server.{name}"
    return None


def _listen(config: Config) -> str | None:
    if not config.server.listen:
        return 'is empty, so nobody could connect; write an address, for example "localhost:8888"'
    addresses = [parse_address(text) for text in (*config.server.listen, config.admin.listen)]
    fixed = [each for each in addresses if each.path or each.name or each.port]
    if len(set(fixed)) < len(fixed):
        return "has an address twice, or that of admin.listen; use each address once"
    return None


def _origins(config: Config) -> str | None:
    remote = [text for text in config.server.listen if not parse_address(text).local]
    if config.server.origins or not remote:
        return None
    return (
        f"must be set, because server.listen has {quote(remote[0])}, which other machines reach;"
        ' add the origin of your pages: origins = ["https://www.example.com"]'
    )


def _levels(config: Config) -> str | None:
    parts = [text.partition("=")[0] for text in config.log.levels]
    twice = next((part for part in parts if parts.count(part) > 1), None)
    return None if twice is None else f"has {twice} twice; write each part once"


def _exposed(config: Config) -> str | None:
    if parse_address(config.admin.listen).local:
        return None
    return "shows metrics to whoever reaches it; keep it on loopback or behind a firewall"


def _everybody(config: Config) -> str | None:
    networks = [text for text in config.server.trusted_proxies if text != "unix"]
    if all(ipaddress.ip_network(text).prefixlen for text in networks):
        return None
    return "believes everybody's X-Forwarded-For; list the addresses of your proxies only"


def _two_ways(config: Config) -> str | None:
    if not config.django.database or not config.django.settings:
        return None
    return (
        "names the site's own settings, which know their database; unset django.database to use"
        " them, or this to use those that notifyd brings"
    )


def _brought(config: Config) -> str | None:
    if config.django.database:
        return None
    for key in _WITH_DATABASE:
        if OPTIONS[key].of(config) != OPTIONS[key].default:
            return (
                f"must be set, because {key} is; write postgresql://USER:PASSWORD@HOST/NAME,"
                f" or unset {key}"
            )
    return None


def _key(config: Config) -> str | None:
    if not config.django.database or config.django.secret_key:
        return None
    return "must be set, because django.database is; write the site's SECRET_KEY"


def _bus(config: Config) -> str | None:
    if not config.django.database or config.redis.url:
        return None
    return (
        "must be set, because django.database is, and the site's cache is unknown then; write"
        " redis://HOST:PORT/DB"
    )


RULES: tuple[Rule, ...] = (
    Rule(("server.listen", "admin.listen"), _listen),
    Rule(("server.origins", "server.listen"), _origins),
    Rule(("server.ping_timeout", "server.ping_interval"), _ping),
    Rule(("server.total_buffer", "server.buffer", "server.bare_buffer"), _buffers),
    Rule(("auth.statement_timeout", "auth.timeout"), _statement),
    Rule(("django.settings", "django.database"), _two_ways),
    Rule(("django.database", *_WITH_DATABASE), _brought),
    Rule(("django.secret_key", "django.database"), _key),
    Rule(("redis.url", "django.database"), _bus),
    Rule(("log.levels",), _levels),
)
# Allowed, but worth a warning.
CAUTIONS: tuple[Rule, ...] = (
    Rule(("server.trusted_proxies",), _everybody),
    Rule(("admin.listen",), _exposed),
)
