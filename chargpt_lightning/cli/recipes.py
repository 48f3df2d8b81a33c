"""The recipes that come with the package, by name."""

from pathlib import Path

from chargpt_lightning.utils.errors import ConfigError

_PACKAGE = Path(__file__).parent.parent


def recipes() -> dict[str, Path]:
    """The recipes' files by name: in the package where a wheel was installed, beside it in a clone."""
    installed, cloned = _PACKAGE / "configs", _PACKAGE.parent / "configs"
    folder = installed if installed.is_dir() else cloned
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_config(given: str) -> str:
    """Looks up what `--config` names.

    Args:
        given: A file, or else a recipe's name. Settings written out, which hold a colon, and `-` for stdin stay as
            they are.

    Raises:
        ConfigError: If it is neither a file nor a recipe.
    """
    path, ours = Path(given), recipes()
    if given == "-" or ":" in given or (path.exists() and not path.is_dir()):
        return given
    if given not in ours:
        raise ConfigError(f"config ({given}) must be a file, or one of the recipes {', '.join(ours)}")
    return str(ours[given])
