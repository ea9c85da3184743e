"""How fast this machine imports, for limits on the processor time of starting: machines differ by three times."""

import resource
import subprocess
import sys
from functools import cache

# What the command line needs of other packages, and its processor seconds where the limits were set.
_IMPORTS = "import typer.main, rich.console, rich.markdown, yaml, markdown_it, charset_normalizer, pydantic"
_USUAL = 0.165


@cache
def slowness():
    """How many times slower than that machine this one imports at the moment; 1 at least."""
    return max(1.0, min(_once() for _ in range(3)) / _USUAL)


def _once():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", _IMPORTS], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
