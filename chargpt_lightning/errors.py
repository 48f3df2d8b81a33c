"""What a user can get wrong, said in one line."""


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
