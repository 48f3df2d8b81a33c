"""`python -m chargpt_lightning`: imports the command line, which takes seconds, and runs it."""

from chargpt_lightning.utils.signals import exit_now, stop_on_signals


def main(args: list[str] | None = None) -> None:
    """Runs the command line; a signal during its imports ends the process without a traceback.

    Args:
        args: The arguments; None uses those of the process.

    Raises:
        SystemExit: With the exit codes of `cli.program.run`.
    """
    with stop_on_signals(exit_now):
        from chargpt_lightning.cli.program import run

        run(args)


if __name__ == "__main__":
    main()
