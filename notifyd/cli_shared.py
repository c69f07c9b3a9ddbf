"""The options that say which configuration is read: the first thing of a command to be known.

Nothing here imports Django, since the configuration says whose Django it is.
"""

from __future__ import annotations

import argparse

from notifyd.daemon.config_instance import check_instance, instance_path


def shared_options() -> argparse.ArgumentParser:
    """Return the options of all commands that read a configuration, as a parent of theirs."""
    shared = argparse.ArgumentParser(add_help=False)
    which = shared.add_mutually_exclusive_group()
    which.add_argument("--config", metavar="FILE", help="the configuration file to read")
    which.add_argument(
        "--instance",
        type=_instance,
        metavar="NAME",
        help="the daemon notifyd@NAME: /etc/notifyd/NAME.toml, NAME without a number behind it if"
        " there is no such file, and its control socket",
    )
    return shared


def _instance(text: str) -> str:
    try:
        return check_instance(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def named_file(arguments: argparse.Namespace) -> str | None:
    """Return the configuration file that the shared options name, None if they name none."""
    return instance_path(arguments.instance) if arguments.instance else arguments.config
