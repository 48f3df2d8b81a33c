"""What a user can get wrong, said in one line."""

import math
from importlib.util import find_spec


class ConfigError(ValueError):
    """A setting or an input that cannot work.

    The message reads `name (value) must rule, because`, for the command line shows it as it is.
    """


def require_at_least_one(**settings: int | None) -> None:
    """Checks sizes and counts, given by name; None is a setting that is off.

    Raises:
        ConfigError: If one is below 1.
    """
    for name, value in settings.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} ({value}) must be at least 1")


def require_package(name: str, value: object, package: str) -> None:
    """Checks that a package is installed without which a setting, given by name and value, cannot work.

    Raises:
        ConfigError: If it is not.
    """
    if find_spec(package) is None:
        raise ConfigError(f"{name} ({value}) needs the package {package}: pip install {package}")


def require_finite(name: str, figure: float, step: int) -> None:
    """Checks a figure of a run.

    Raises:
        FloatingPointError: If it is infinite or not a number.
    """
    if not math.isfinite(figure):
        raise FloatingPointError(f"{name} ({figure}) at step {step} must be finite")
