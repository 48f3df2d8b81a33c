"""Errors in settings and inputs, which the command line reports in one line."""

import math
from importlib.util import find_spec

MAX_PROCESSES = 256  # of one run on one machine; many more would stop it


class ConfigError(ValueError):
    """Raised for a setting or an input that cannot work.

    The message has the form `name (value) must RULE, because ...`; the command line prints it unchanged.
    """


def require_positive(**settings: int | None) -> None:
    """Checks sizes and counts, given by name; None means that a setting is off.

    Raises:
        ConfigError: If a setting is below 1.
    """
    for name, value in settings.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} ({value}) must be at least 1")


def require_at_most(most: int, **settings: int) -> None:
    """Checks counts, given by name, of what would fill the machine's memory.

    Raises:
        ConfigError: If a count is larger.
    """
    for name, value in settings.items():
        if value > most:
            raise ConfigError(f"{name} ({value}) must be at most {most}")


def require_package(name: str, value: object, package: str, release: str = "") -> None:
    """Checks that the package a setting needs is installed.

    Args:
        name: Name of the setting, for the error message.
        value: Value of the setting, for the error message.
        package: Name of the package, both to import and to install.
        release: The release to install, such as `==3.0.0`, if not any will do.

    Raises:
        ConfigError: If the package is not installed.
    """
    if find_spec(package) is None:
        raise ConfigError(f"{name} ({value}) needs the package {package}: pip install {package}{release}")


def require_finite(name: str, figure: float, step: int) -> None:
    """Checks that a metric is finite.

    Raises:
        FloatingPointError: If it is infinite or not a number.
    """
    if not math.isfinite(figure):
        raise FloatingPointError(f"{name} ({figure}) at step {step} must be finite")
