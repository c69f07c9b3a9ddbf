"""The command line: what each command takes, and the exit code it ends with.

0 is success, 1 failure, 2 a wrong command line, 78 a bad configuration (EX_CONFIG of
sysexits.h), after which systemd does not try again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Final, TextIO

import notifyd
from notifyd.cli_bus import add_explain, add_publish, add_tail
from notifyd.cli_shared import named_file, shared_options
from notifyd.core.addresses import MAX_PORT
from notifyd.core.events import Rejected
from notifyd.core.faults import Fault
from notifyd.daemon.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

EX_CONFIG: Final = 78


class _Help(argparse.HelpFormatter):
    """Help that has room for the longest command: argparse forgets that commands are indented."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if action.metavar == "COMMAND":
            self._action_max_length += self._indent_increment


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the reference page is made from it, too."""
    parser = argparse.ArgumentParser(
        prog="notifyd",
        formatter_class=_Help,
        description="Live notifications for a Django site: a daemon that holds the WebSockets.",
        epilog="Every command but demo reads /etc/notifyd/notifyd.toml, or the file of --config,"
        " and the environment NOTIFYD_SECTION_OPTION. Exit codes: 0 success, 1 failure, 2 wrong"
        " command line, 78 bad configuration.",
    )
    parser.add_argument("--version", action="version", version=f"notifyd {notifyd.__version__}")
    shared = shared_options()
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, function: str, words: str, more: str = "", *, configured: bool = True
    ) -> argparse.ArgumentParser:
        added = subparsers.add_parser(
            name,
            parents=[shared] if configured else [],
            help=words,
            description=f"{words[0].upper()}{words[1:]}. {more}",
        )
        # By name: the modules of the daemon take half a second, which `notifyd status` need not.
        added.set_defaults(function=f"notifyd.{function}")
        return added

    _add_run(command("run", "commands:run", "run the daemon"))
    command(
        "check",
        "commands:check",
        "validate the configuration",
        "Reads it, sets up the site's Django, and reaches Redis and the database; says what to do"
        " about each fault.",
    )
    command("config", "commands:show_config", "print the effective configuration, secrets hidden")
    _add_status(command("status", "commands_status:status", "show what the daemon is doing"))
    add_tail(command("tail", "commands_tail:tail", "print events as they pass on the bus"))
    add_explain(command("explain", "commands_explain:explain", "tell who gets an event, and why"))
    add_publish(command("publish", "commands:publish", "write an event to the bus"))
    command(
        "reload",
        "commands_control:reload",
        "have the running daemon read its configuration anew",
        "It waits for the outcome, and tells what has changed and what needs a restart. Of a"
        " configuration with a fault nothing is taken, and the exit code is 1.",
    )
    _add_disconnect(
        command("disconnect", "commands_control:disconnect", "close the connections of a user")
    )
    _add_token(command("token", "commands:token", "print a token for a user, for trying out"))
    _add_demo(
        command("demo", "commands:demo", "open a newsroom to try notifyd in", configured=False)
    )
    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    run.description = "Run the daemon. It stays in the foreground; SIGTERM ends it."
    run.add_argument(
        "--take-over",
        action="store_true",
        help="take the connections of the daemon that runs already, which then ends; nobody is"
        " disconnected. For supervisors other than systemd, where a restart does the same",
    )


def _add_status(status: argparse.ArgumentParser) -> None:
    status.description = (
        "Show what the running daemon is doing: who is connected, how the bus does, how much"
        " happens, which clients are slow, and what was warned of last."
    )
    status.add_argument("--json", action="store_true", help="print it as JSON")
    status.add_argument(
        "--watch",
        action="store_true",
        help="show it anew every second until Ctrl-C; with --json a line each time",
    )


def _add_token(token: argparse.ArgumentParser) -> None:
    token.description = (
        "Print a token for a user, for trying out. Paste it into `python -m websockets"
        " ws://localhost:8888/`. It expires after SESAME_MAX_AGE seconds."
    )
    token.add_argument("user", metavar="USER", help="the user's name, as for logging in")
    token.add_argument(
        "--unscoped", action="store_true", help="a token like the guide's, without a scope"
    )


def _add_disconnect(disconnect: argparse.ArgumentParser) -> None:
    disconnect.description = (
        "Close the connections of a user, at every daemon of the site. The pages do not come back"
        " by themselves (close code 4403), but the user may load them anew: to keep somebody out,"
        " deactivate the user. It asks the running daemon."
    )
    disconnect.add_argument(
        "--user",
        required=True,
        action="append",
        metavar="PK",
        help="the user with this primary key; may be repeated",
    )


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.description = (
        "Open a newsroom to try notifyd in: a Django site, a Redis and a daemon of its own, on this"
        " machine only. It needs no configuration. Ctrl-C closes it, and keeps its data."
    )
    for option, default, words in (
        ("--site-port", 8000, "the port of the site"),
        ("--port", 8888, "the port of the daemon, for WebSockets"),
        ("--admin-port", 9488, "the port of the daemon's metrics and health checks"),
    ):
        demo.add_argument(
            option, type=_port, default=default, metavar="PORT", help=f"{words}; {default} if unset"
        )
    demo.add_argument(
        "--state",
        metavar="DIR",
        help="where the data is kept; var/demo of a checkout, else notifyd-demo in"
        " $XDG_STATE_HOME or ~/.local/state, if unset",
    )
    demo.add_argument(
        "--check",
        action="store_true",
        help="play two people and their browsers, and exit 0 only if an edit reaches the one who"
        " may see it and not the other",
    )


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"a port is between 1 and {MAX_PORT}")
    return port


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = build_parser().parse_args(argv)
    if instance := getattr(arguments, "instance", None):
        arguments.config = named_file(arguments)
        # As systemd says it to the daemon itself.
        os.environ.setdefault("RUNTIME_DIRECTORY", f"/run/notifyd-{instance}")
    try:
        return int(resolve_name(arguments.function)(arguments))
    except ConfigError as error:
        for fault in error.faults:
            print(f"notifyd: {fault}", file=sys.stderr)
        print("notifyd: the configuration can't be used; nothing was started.", file=sys.stderr)
        return EX_CONFIG
    except (Fault, Rejected) as error:
        print(f"notifyd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader, `head` perhaps, has seen enough. What is still buffered has nowhere to go.
        _discard(sys.stdout)
        return 0
    finally:
        # A log that can't be written must not decide the exit code: Python itself would end with
        # 120, and systemd start again what was only told to stop.
        try:
            if sys.stderr is not None:
                sys.stderr.flush()
        except OSError:
            _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Let what is still buffered go nowhere."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
