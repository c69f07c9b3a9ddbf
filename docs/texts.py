"""What stands in the reference pages beside the tables."""

from __future__ import annotations

from notifyd.core.protocol import Reconnect
from notifyd.daemon.config import DEFAULT_PATH

CONFIGURATION = f"""\
# Configuration

notifyd reads `{DEFAULT_PATH}`, or the file that `--config` names; both
are [TOML]. Without a file every option has its default: with `DJANGO_SETTINGS_MODULE` set and the
site's cache in Redis, none is needed. `notifyd check` validates everything, and `notifyd config`
prints what is in effect and where each value came from.

An option is taken from the first of these that has it:

1. the environment variable `NOTIFYD_SECTION_NAME`, for example `NOTIFYD_SERVER_LISTEN`; lists have
   commas, booleans are true, false, yes, no, 1 or 0, and an empty variable is an empty text or
   list. For a secret `NOTIFYD_SECTION_NAME_FILE` may name a file that holds it instead;
2. for a secret, the systemd credential `section.name`, for example
   `LoadCredential=redis.url:/etc/notifyd/redis.url` in the unit;
3. the file. For a secret the key `name_file` may name a file that holds it instead;
4. the default.

A name that is no option is ignored with a warning that names the nearest one. Any other fault keeps
the daemon from starting (exit code 78); all faults are told at once. Addresses to listen at are
`host:port`, `[IPv6]:port`, `unix:/absolute/path`, or `systemd:NAME`, the sockets of the unit with
`FileDescriptorName=NAME`; port 0 is any free one. Where systemd has a socket open at an address,
the daemon takes that.

A change takes effect at a [reload or at a restart](../how-to/change-the-configuration.md), as the
tables say; neither disconnects anybody.

[TOML]: https://toml.io/en/v1.0.0
"""

METRIC_PAGE = """\
# Metrics

`/metrics` of the admin listener serves these as Prometheus' text format, or as OpenMetrics to a
scraper that asks for it, together with the `process_*` and `python_*` metrics of the client
library. The values of labels that are listed here are present from the start, at 0, so that a rate
has something to begin with; one that is not foreseen counts as `other`.

Histograms count up to these bounds, in seconds: {buckets}.
Set an objective at one of them: whether it is met can then be counted, not only guessed.
"""

LOG_PAGE = """\
# Log events

Every line has `timestamp`, `level`, `event` and the fields below; lines of libraries have
`logger`, too. Under systemd they are fields of the journal in capitals, with a prefix:

```console
$ journalctl -u notifyd NOTIFYD_EVENT=auth.failed
$ journalctl -u notifyd NOTIFYD_USER=42
$ journalctl -u notifyd NOTIFYD_CONNECTION=1203
```

Users are named by primary key, connections by a number; a process counts from 1, and numbers those
anew that it takes from another. Tokens, cookies and passwords are never logged, at no level.

The way of one connection ends in one line, `connection.closed`, which tells all of it.

## Lines that repeat

Some lines can come in thousands: a crawler's tokens, a proxy's probes. Of those that are alike the
first is told at once. The others are counted, and once in {fold:g} s (`[log] fold`) the latest of
them is told, with `repeated`: how many they were. So lines without `repeated` came once each, the
others as often as it says. The metrics count each.

The table's column "Alike by" names the fields in which such lines agree, whatever address they are
about; where it is empty, each line is told. So is each line that names a user, and each that is
critical. Lines of libraries are alike if they come from the same place in the code. Set `[log]
fold` to 0 where something else needs each of the lines, as whatever bans addresses does.

## Levels of parts

`[log] levels` gives parts of the log another level than `[log] level`. A part is the first word of
an event's name, or one of {libraries}:

```toml
[log]
levels = ["auth=debug", "django=error"]
```

At `debug` a part is told without folding, and with the traceback of each error. The libraries have
no `debug`: they would show headers, and the parameters of queries. Change it while the daemon runs:
`notifyd reload`.

## Key events

These have a `MESSAGE_ID` in the journal, which stays as it is whatever an event is called:

```console
$ journalctl MESSAGE_ID={example}
```

{ids}
## All events

"""

CODE_PAGE = """\
# Close codes

The code of the WebSocket's Close frame tells a client what to do next; the reason is for people.

| Reconnect | What the client does |
| --- | --- |
"""

SAMPLE = """\
The configuration of notifyd. Every option is here, commented out at its default; remove the # to
set it. The environment variable NOTIFYD_SECTION_NAME wins over this file. Try a change with:
notifyd check --config FILE
"""

ELSEWHERE = "The same from a file. It may also come as a credential of systemd that is called {}."

RECONNECT = {
    Reconnect.YES: "It connects again, after a short random delay that grows with each failure.",
    Reconnect.LATER: "It does the same, but begins with a delay of several seconds.",
    Reconnect.NEW_TOKEN: "It fetches a new token first. The same code twice in a row: it stops.",
    Reconnect.NO: "It stops: the same would happen again.",
}
