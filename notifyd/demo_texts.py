"""What the demo writes: its daemon's configuration, and what it says to people once it is open."""

from __future__ import annotations

from typing import Final

CONFIGURATION: Final = """\
# The configuration of the demo's daemon, written at each start. Other commands take it, too:
#   notifyd status --config {configuration}
# Those that ask the site itself have to know its database besides:
#   NEWSROOM_DATABASE={database} notifyd token nadia --config {configuration}
[server]
listen = ["localhost:{port}"]
drain = 0
[admin]
listen = "127.0.0.1:{admin_port}"
[control]
socket = {control}
[redis]
url = {redis}
[django]
settings = "newsroom.settings"
path = {site}
"""

INVITATION: Final = """
The newsroom is open. Take two browsers, or a private window beside the usual one:

  1. {address}admin/articles/article/   log in as nadia, password newsroom
  2. {address}admin/articles/article/   log in as omar, password newsroom

Both pages say "live" in their header. As omar click an article, change it and press Save: nadia's
page tells her at once. Then log out as nadia and log in as rosa, a reporter with the same password:
she is told of comments only, for she may see no article. admin may do everything.

  metrics  http://localhost:{admin_port}/metrics
  daemon   {command} status --config {configuration}
  logs     {logs}

What ends is started again after {rest:.0f} seconds, and the pages go on by themselves. To see it:

  kill -9 {pids[redis]}   Redis
  kill -9 {pids[site]}   the site
  kill -9 {pids[daemon]}   the daemon

Ctrl-C closes it; what was written stays.
"""
