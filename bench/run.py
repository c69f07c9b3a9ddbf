"""notifyd beside the guide's server: 5,000 clients, one event at a time. Prints two tables.

In the first the clients offer compression, as browsers and the websockets library do; in the
second they don't, which spares the guide's server compressing each event for each client.
"""

from __future__ import annotations

import argparse

from compare import Plan, compare, machine, ratios


def main() -> None:
    """Run the experiment at its full size, or at the one given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=1000, help="clients at the first reading")
    parser.add_argument("--many", type=int, default=5000, help="clients at the second")
    parser.add_argument("--rounds", type=int, default=7, help="rounds, the servers in turn")
    parser.add_argument("--events", type=int, default=20, help="events in each round")
    sizes = vars(parser.parse_args())
    print(f"{machine()}; {sizes['many']} clients")
    for deflate, words in ((True, "offer compression"), (False, "do not offer compression")):
        figures = compare(Plan(**sizes, deflate=deflate))
        ratio = ratios(figures)
        print(f"\nClients that {words}:\n")
        print("| server | processor per delivery | memory per client |")
        print("|---|---|---|")
        for name, figure in figures.items():
            print(f"| {name} | {figure.cpu:.1f} us | {figure.memory / 1024:.1f} KiB |")
        print(f"| notifyd / guide | {ratio.cpu:.2f} | {ratio.memory:.2f} |", flush=True)


main()
