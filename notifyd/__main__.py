"""The program `notifyd`, which is `python -m notifyd`, too.

The site's packages are found first, if the configuration names its Python: from here on Django and
whatever else the site shares with the daemon may be imported.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import TYPE_CHECKING

from notifyd.cli_shared import named_file, shared_options
from notifyd.daemon import config
from notifyd.daemon.auth_virtualenv import VirtualenvError, activate

if TYPE_CHECKING:
    from collections.abc import Sequence


def main() -> int:
    """Run the command that was typed, and return its exit code."""
    # What is wrong with the configuration, the command tells: it reads all of it.
    with contextlib.suppress(config.ConfigError, VirtualenvError):
        if python := _python(sys.argv[1:]):
            activate(python)
    from notifyd.cli import main as command  # noqa: PLC0415 - it imports Django, see above

    return command()


def _python(argv: Sequence[str]) -> str:
    """Return [django] python of the configuration that the command reads. Raises ConfigError."""
    parser = argparse.ArgumentParser(
        add_help=False, exit_on_error=False, parents=[shared_options()]
    )
    try:
        arguments, _ = parser.parse_known_args(argv)
    except argparse.ArgumentError:
        return ""
    # The demo has a site of its own.
    demo = argv[:1] == ["demo"]
    return "" if demo else config.load(named_file(arguments), os.environ)[0].django.python


if __name__ == "__main__":
    sys.exit(main())
