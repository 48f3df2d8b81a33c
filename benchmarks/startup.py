"""How long the command line takes until it answers, beside what no command on Lightning can do without."""

import sys
from functools import partial

from benchmarks.contenders import OURS, Bench, timed
from benchmarks.figures import Row, compare, interleave

HELP = "python -m chargpt_lightning --help"
IMPORT = 'python -c "import lightning"'


def measure(bench: Bench) -> list[Row]:
    """Whole processes."""
    contenders = {
        HELP: partial(timed, bench, [*OURS, "--help"]),
        IMPORT: partial(timed, bench, [sys.executable, "-c", "import lightning"]),
    }
    return compare(interleave(contenders, bench.sizes.rounds), ["process_s"], [(HELP, IMPORT)])
