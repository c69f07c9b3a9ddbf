"""Fail where the daemon became slower or larger, beside the guide's server in the same run.

A small comparison of the same shape as run.py. Its two ratios may exceed those in guard.json by a
fifth; `--write` notes the present ones there, after a change that was meant to move them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from compare import Figures, Plan, compare, ratios

LIMITS = Path(__file__).with_name("guard.json")
PLAN = Plan(few=200, many=1000, rounds=7, events=25, deflate=False)
TOLERANCE = 1.2
TRIES = 3


def main() -> int:
    """Compare, and return 0 if both ratios are within their bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="note the present ratios")
    if parser.parse_args().write:
        ratio = ratios(compare(PLAN))
        limits = {"cpu": round(ratio.cpu, 3), "memory": round(ratio.memory, 3)}
        LIMITS.write_text(json.dumps(limits, indent=2) + "\n", encoding="ascii")
        print(f"noted: {limits}")
        return 0
    noted = Figures(**json.loads(LIMITS.read_text(encoding="ascii")))
    # A neighbour on a shared machine can spoil a run; what became slower is so every time.
    for attempt in range(1, TRIES + 1):
        ratio = ratios(compare(PLAN))
        worse = {
            name: f"{now:.2f} of the guide's, noted as {then:.2f}"
            for name, now, then in (
                ("processor per delivery", ratio.cpu, noted.cpu),
                ("memory per client", ratio.memory, noted.memory),
            )
            if now > then * TOLERANCE
        }
        print(f"try {attempt}: {ratio.cpu:.2f} of the guide's processor, {ratio.memory:.2f} memory")
        if not worse:
            return 0
    for name, words in worse.items():
        print(f"worse by more than a fifth: {name} is {words}")
    return 1


sys.exit(main())
