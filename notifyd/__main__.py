"""`python -m notifyd` is the command `notifyd`."""

import sys

from notifyd.cli import main

sys.exit(main())
