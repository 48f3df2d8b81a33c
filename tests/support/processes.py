"""Python in processes of its own, forked from one that has imported the package: starting it anew takes seconds.

What concerns the start itself (encodings, pipes, launchers, signals to a terminal) is tested with a new interpreter.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from support.command_line import Result

MODULE = ["-m", "chargpt_lightning"]
FORK = "spawn" if sys.platform == "win32" else "forkserver"
_context = multiprocessing.get_context(FORK)
if FORK == "forkserver":
    _context.set_forkserver_preload(["chargpt_lightning.cli.cli"])


class Python:
    """A process that does what `python ARGS` does in the current directory, with the current environment.

    Args:
        args: `-m MODULE ...`, `-c CODE ...` or `FILE ...`.
        environment: More variables.
    """

    def __init__(self, *args: str, **environment: str) -> None:
        self._outputs = [Path(tempfile.mkstemp()[1]) for _ in range(2)]
        self._process = _context.Process(target=_run, args=(args, dict(os.environ | environment), self._outputs))
        self._process.start()

    @property
    def out(self) -> str:
        return self._outputs[0].read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._outputs[1].read_text(encoding="utf-8")

    def is_running(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        self._process.kill()

    def signal(self, signum: int) -> None:
        os.kill(self._process.pid, signum)

    def result(self, timeout_s: float = 120) -> Result:
        """Waits for its end; after the timeout, kills it and what it started."""
        self._process.join(timeout_s)
        if self.is_running():
            os.killpg(self._process.pid, signal.SIGKILL)
            raise TimeoutError(f"still running after {timeout_s} s; stderr: {self.err}")
        result = Result(self._process.exitcode, self.out, self.err)
        for path in self._outputs:
            path.unlink()
        return result


def forked(*args: str, **environment: str) -> Result:
    """Runs a command of this package to its end."""
    return Python(*MODULE, *args, **environment).result()


def started_devices(number: int, *args: str) -> list[Python]:
    """Starts a command on this many devices, as torchrun does."""
    if number == 1:
        return [Python(*MODULE, *args)]
    with socket(AF_INET, SOCK_STREAM) as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "TORCHELASTIC_RUN_ID": "test"}
    shared |= {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number), "GROUP_RANK": "0"}
    ranks = map(str, range(number))
    return [Python(*MODULE, *args, **shared, RANK=rank, LOCAL_RANK=rank) for rank in ranks]


def two_devices(*args: str) -> Result:
    """Runs a command on two devices; returns the first's exit code and the output of both."""
    first, second = (device.result() for device in started_devices(2, *args))
    return Result(first.code, first.out + second.out, first.err + second.err)


def _run(args: tuple[str, ...], environment: dict[str, str], outputs: list[Path]) -> None:
    if sys.platform != "win32":
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # the first process's TMPDIR is not this one's
    rank_zero_only.rank = int(environment.get("RANK", 0))  # Lightning has read it when it was imported
    for stream, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY), stream)
    multiprocessing.set_start_method(None, force=True)  # as in a new Python, for workers that load data
    _interpret(args)


def _interpret(args: tuple[str, ...]) -> None:
    match args:
        case ["-m", module, *rest]:
            sys.argv = [module, *rest]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", code, *rest]:
            sys.argv = ["-c", *rest]
            exec(code, {"__name__": "__main__"})
        case [file, *rest]:
            sys.argv = [file, *rest]
            runpy.run_path(file, run_name="__main__")
