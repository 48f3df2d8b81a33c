"""`python -m chargpt_lightning`: prints help at once, or imports the command line, which takes seconds, and runs it."""

import sys

from chargpt_lightning.cli.help import answer
from chargpt_lightning.utils.console import decoded_arg, use_utf8
from chargpt_lightning.utils.signals import exit_now, stop_on_signals


def main(args: list[str] | None = None) -> None:
    """Runs the command line; a signal during its imports ends the process without a traceback.

    Args:
        args: The arguments; None uses those of the process.

    Raises:
        SystemExit: With the exit codes of `cli.help.answer` and `cli.program.run`.
    """
    with stop_on_signals(exit_now):
        use_utf8()
        args = [decoded_arg(arg) for arg in sys.argv[1:]] if args is None else args
        answer(args)
        from chargpt_lightning.cli.program import run

        run(args)


if __name__ == "__main__":
    main()
