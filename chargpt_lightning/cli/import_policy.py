"""Which classes and functions settings may name.

A named class is imported and called, so a name can run any code. In their own flags and files, users may name anything
that is not on jsonargparse's denylist (as `os.system` is). The config.yaml of a run, which may come from somebody else,
may name only the classes listed here and those that the user names in the same command.
"""

import re
import sys
from argparse import ArgumentError
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from jsonargparse import set_parsing_settings
from jsonargparse._common import parsing_settings

from chargpt_lightning.utils.errors import ConfigError

# LambdaCallback is not listed because it calls any function, CSVLogger because it deletes the files in its directory.
ALLOWED_IN_RUN_CONFIG = {
    "chargpt_lightning.loggers": ("TensorBoard", "Wandb"),
    "chargpt_lightning.data.windows": ("characters_in", "windows_in"),
    "lightning.pytorch.accelerators": ("CPUAccelerator", "CUDAAccelerator", "MPSAccelerator"),
    "lightning.pytorch.callbacks": (
        *("DeviceStatsMonitor", "EMAWeightAveraging", "EarlyStopping", "GradientAccumulationScheduler"),
        *("LearningRateFinder", "LearningRateMonitor", "ModelCheckpoint", "ModelSummary", "RichModelSummary"),
        *("ThroughputMonitor", "WeightAveraging"),
    ),
    "lightning.pytorch.loggers": ("CometLogger", "MLFlowLogger", "TensorBoardLogger", "WandbLogger"),
    "lightning.pytorch.plugins": ("DoublePrecision", "FSDPPrecision", "HalfPrecision", "MixedPrecision", "Precision"),
    "lightning.pytorch.plugins.environments": (
        *("KubeflowEnvironment", "LSFEnvironment", "LightningEnvironment", "MPIEnvironment", "SLURMEnvironment"),
        "TorchElasticEnvironment",
    ),
    "lightning.pytorch.profilers": ("AdvancedProfiler", "PassThroughProfiler", "PyTorchProfiler", "SimpleProfiler"),
    "lightning.pytorch.strategies": ("DDPStrategy", "FSDPStrategy", "ModelParallelStrategy", "SingleDeviceStrategy"),
}
LEGACY_PATHS = ("chargpt_lightning.windows.characters_in", "chargpt_lightning.windows.windows_in")  # written by 0.1

DENIAL = r"Importing '([\w.]+)' is not allowed, denied by the '(.+?)' entry"  # jsonargparse's message
DENIED = "a setting ({0}) must not name a function that can run any command; wrap what you need in your own class"
UNTRUSTED = (
    "config.yaml of the run ({0}) must name only classes listed in chargpt_lightning/cli/import_policy.py; "
    "if you trust {0}, name it again with --config or a flag"
)


@contextmanager
def imports_checked() -> Iterator[None]:
    """Makes jsonargparse refuse imports on its denylist (not only warn), and build no objects for untyped arguments.

    Raises:
        ConfigError: If an import was refused.
    """
    before = dict(parsing_settings)
    set_parsing_settings(import_path_denylist=[], instantiate_subclass_spec_in_any=False)
    try:
        yield
    except (ArgumentError, ValueError) as error:
        if denied := re.search(DENIAL, str(error)):
            name, entry = denied.groups()
            raise ConfigError(UNTRUSTED.format(name) if entry == "*" else DENIED.format(name)) from error
        raise
    finally:
        parsing_settings.update(before)


def allow_only_known_imports(named: Iterable[str]) -> None:
    """Limits imports by settings to ALLOWED_IN_RUN_CONFIG and the user's own, until `imports_checked` ends.

    Args:
        named: Texts in the user's own settings; those that are import paths of imported classes are allowed.
    """
    known = (f"{module}.{name}" for module, names in ALLOWED_IN_RUN_CONFIG.items() for name in names)
    imported = (text for text in named if _imported(text) is not None)
    allowed = {path for given in (*known, *LEGACY_PATHS, *imported) for path in (given, _defined_as(given))}
    parsing_settings["import_path_verdicts"] = {"*": False} | dict.fromkeys(allowed, True)


def texts_in(dumped: str) -> set[str]:
    """Returns all settings that are text in a parser's dump."""
    return {value for _, value in named_texts(yaml.safe_load(dumped))}


def named_texts(settings: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yields names and values of all settings that are text; items of a list have the name of the list."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            yield from named_texts(value, f"{name}.{key}".removeprefix("."))
    elif isinstance(settings, list):
        for value in settings:
            yield from named_texts(value, name)
    elif isinstance(settings, str):
        yield name, settings


def _defined_as(path: str) -> str:
    """Returns the import path of the module that defines a class or function."""
    found = _imported(path)
    return f"{found.__module__}.{found.__qualname__}" if hasattr(found, "__qualname__") else path


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(sys.modules.get(module), name, None)
