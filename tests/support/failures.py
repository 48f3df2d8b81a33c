"""A plugin of pytest: a failure begins with what broke, and with the command that runs this test alone."""

import shlex

import pytest
from _pytest._code.code import ExceptionChainRepr, ReprEntry, ReprTraceback


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if isinstance(report.longrepr, ExceptionChainRepr):
        _, crash, _ = report.longrepr.chain[-1]
        entry = ReprEntry([*broken(crash), f"Alone: {alone(item)}"], None, None, None, "long")
        report.longrepr.chain.insert(0, (ReprTraceback([entry], None, "long"), None, None))
    return report


def broken(crash) -> list[str]:
    """The error and where it was raised, unless it is a group of errors."""
    if crash is None:
        return ["E   several errors"]
    return [f"E   {line}" for line in crash.message.splitlines()[:3]] + [f"At {crash.path}:{crash.lineno}"]


def alone(item: pytest.Item) -> str:
    slow = ["-m", "slow"] if item.get_closest_marker("slow") else []
    return shlex.join(["python", "-m", "pytest", "-n", "0", *slow, item.nodeid])
