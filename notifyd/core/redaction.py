"""Redaction: what a log line must not hold, taken out of it.

The last line of defence: whoever logs leaves secrets out in the first place.
"""

from __future__ import annotations

import re
from typing import Final

_HIDDEN: Final = "***"
_SECRET: Final = "authorization|cookie|passwd|password|secret|ticket|token"  # noqa: S105 - names
_NAME: Final = re.compile(_SECRET, re.IGNORECASE)
# The repetition is bounded because the text may be a stranger's: no input makes this slow.
_PAIR: Final = re.compile(rf"((?:{_SECRET})[\w-]{{0,32}}=)[^\s&;,]+", re.IGNORECASE)
_WORD: Final = re.compile(r"\S+")


def redact(value: object, name: str = "") -> object:
    """Return `value` as JSON can carry it, its secrets replaced by `***`.

    What is called like a secret is hidden whole. In any other text the password of a URL and what
    follows `token=` or the like is. An exception becomes one line: its class and its message.
    """
    if _NAME.search(name):
        return _HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): redact(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in value]
    if isinstance(value, BaseException):
        value = " ".join(f"{type(value).__name__}: {value}".split()).removesuffix(":")
    text = _WORD.sub(_without_password, str(value))
    return _PAIR.sub(rf"\1{_HIDDEN}", text)


def _without_password(word: re.Match[str]) -> str:
    # By hand: a pattern would look at every character anew for each "://" there is, and a
    # password in the wild may contain what ends it by the rules of RFC 3986 ("/", "@", ":").
    scheme, mark, rest = word[0].partition("://")
    userinfo, at, host = rest.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    return f"{scheme}{mark}{user}:{_HIDDEN}{at}{host}" if colon else word[0]
