"""Finds the recipes that are shipped with the package, by name."""

import locale
import os
from collections.abc import Collection
from pathlib import Path

import yaml

from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.paths import expand_user

ENCODING = locale.getpreferredencoding(do_setlocale=False)  # with which jsonargparse reads files
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
        ConfigError: If there is no such file or recipe, or the file does not contain settings.
    """
    if given == "-" or ":" in given:
        return given
    given = expand_user(given)
    path, files = Path(given), recipes()
    if os.path.exists(given) and not path.is_dir():  # noqa: PTH110  Path.exists raises OSError for a long text
        if path.is_file():  # a pipe can be read only once
            require_settings(path)
        return given
    if given not in files:
        raise ConfigError(f"config ({given}) must be a file, or one of the recipes {', '.join(files)}")
    return str(files[given])


def section_of(config: str, subcommand: str, subcommands: Collection[str]) -> str:
    """Returns the value of `--config`; of a file with a section per subcommand, the text of the section of this one."""
    if config == "-" or ":" in config or not Path(config).is_file():
        return config
    settings = yaml.compose(Path(config).read_text(encoding=ENCODING), Loader=yaml.SafeLoader)
    assert settings is not None, "require_settings found names"
    sections = {name.value: section for name, section in settings.value}
    if sections.keys().isdisjoint(subcommands):
        return config
    return yaml.serialize(sections[subcommand], Dumper=yaml.SafeDumper) if subcommand in sections else "{}"


def require_settings(path: Path) -> None:
    """Checks that a settings file is YAML and contains names with values; jsonargparse's errors do not name the file.

    Raises:
        ConfigError: If it is not.
    """
    try:
        text = path.read_text(encoding=ENCODING)
        settings = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"config ({path}) must be valid YAML, but: {error}") from error
    if not isinstance(settings, yaml.MappingNode):
        raise ConfigError(
            f"config ({path}) must contain names of settings with their values, such as `seed_everything: 1`"
        )
