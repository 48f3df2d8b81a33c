"""Finds the recipes that are shipped with the package, by name."""

from pathlib import Path

from chargpt_lightning.utils.errors import ConfigError

_PACKAGE = Path(__file__).parent.parent


def recipes() -> dict[str, Path]:
    """Returns the files of recipes by name: inside an installed package, or next to the package in a clone."""
    installed, cloned = _PACKAGE / "configs", _PACKAGE.parent / "configs"
    folder = installed if installed.is_dir() else cloned
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_config(given: str) -> str:
    """Returns the value of `--config`, a recipe's name replaced by its file.

    Args:
        given: A file or a recipe's name; a file has priority. Also YAML, recognized by a colon, or `-` for stdin.

    Raises:
        ConfigError: If there is no such file or recipe.
    """
    path, files = Path(given), recipes()
    if given == "-" or ":" in given or (path.exists() and not path.is_dir()):
        return given
    if given not in files:
        raise ConfigError(f"config ({given}) must be a file, or one of the recipes {', '.join(files)}")
    return str(files[given])
