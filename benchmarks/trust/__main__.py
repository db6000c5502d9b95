"""`python -m benchmarks.trust [part ...]`: measures, then prints the tables and draws the figures of docs/trust.md.

Without parts all of them are measured. A part replaces its lines of benchmarks/results/trust.jsonl. Seeds are fixed.
"""

from __future__ import annotations

import argparse

from .bodies import bodies, verdicts
from .claims import claims
from .error_bars import error_bars
from .large import large
from .learning import learning
from .networks import mnist, swiss_roll
from .pages import figures, tables

PARTS = {
    "bodies": bodies,
    "verdicts": verdicts,
    "error-bars": error_bars,
    "learning": learning,
    "swiss-roll": swiss_roll,
    "mnist": mnist,
    "large": large,
    "claims": claims,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trust", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"what to measure (default all): {', '.join(PARTS)}")
    parser.add_argument("--no-run", action="store_true", help="only print and draw what has been measured")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    for name in () if options.no_run else options.parts or PARTS:
        PARTS[name]()
    tables()
    figures()


if __name__ == "__main__":
    main()
