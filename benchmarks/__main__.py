"""The runner: `python -m benchmarks NAME [options]`."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

from benchmarks import registry
from benchmarks.against import compared


def main(arguments: list[str]) -> None:
    """Run the benchmark that the arguments name, or list all."""
    if not arguments or arguments[0] in ("-h", "--help", "list"):
        print("python -m benchmarks NAME [--json FILE] [--baseline REVISION] [options of the benchmark]\n")
        for name, text in registry.described().items():
            print(f"  {name:12} {text}")
        return
    name, *rest = arguments
    if name not in registry.NAMES:
        sys.exit(f"there is no benchmark {name!r}; there are {', '.join(registry.NAMES)}")
    module = registry.load(name)
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument(
        "--baseline",
        metavar="REVISION",
        help="measure that revision too, on this machine and in turn with the working tree, and print the ratio",
    )
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="so often with a baseline; medians count")
    if hasattr(module, "options"):
        module.options(parser)
    parsed = parser.parse_args(rest)
    # Deprecations of the frameworks are not what is measured.
    warnings.simplefilter("ignore")
    tables = compared(name, rest, parsed.baseline, parsed.rounds) if parsed.baseline else module.run(parsed)
    for table in tables:
        print(f"\n{table}", flush=True)
    if parsed.json is not None:
        parsed.json.write_text(json.dumps([table.to_dict() for table in tables], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
