"""Which classes and functions a file of settings may name.

A class that is named is imported and called, so a name can run anything. In their own flags and files users may name
anything that jsonargparse does not deny (such as `os.system`). The config.yaml of a run may name only the classes
listed here and those that the user names in the same command.
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

# Without LambdaCallback, which calls what it is given, and CSVLogger, which deletes what it finds in its directory.
OF_A_RUN = {
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
BEFORE_FOLDERS = ("chargpt_lightning.windows.characters_in", "chargpt_lightning.windows.windows_in")  # in 0.1

OF_ANYBODY = "a setting ({0}) must not name what can run any command; wrap what you need in a class of your own"
OF_OTHERS = (
    "config.yaml of the run ({0}) must name only what a run is known to need (chargpt_lightning/cli/import_policy.py); "
    "if you trust {0}, name it again with --config or a flag"
)


@contextmanager
def imports_checked() -> Iterator[None]:
    """Makes jsonargparse refuse imports on its denylist instead of warning, and build no objects for untyped arguments.

    Raises:
        ConfigError: If a name was refused.
    """
    before = dict(parsing_settings)
    set_parsing_settings(import_path_denylist=[], instantiate_subclass_spec_in_any=False)
    try:
        yield
    except (ArgumentError, ValueError) as error:
        if denied := re.search(r"Importing '([\w.]+)' is not allowed, denied by the '(.+?)' entry", str(error)):
            name, entry = denied.groups()
            raise ConfigError(OF_OTHERS.format(name) if entry == "*" else OF_ANYBODY.format(name)) from error
        raise
    finally:
        parsing_settings.update(before)


def allow_only_known_imports(named: Iterable[str]) -> None:
    """From here on settings, and what is made of them, may name only the classes of `OF_A_RUN`, and these.

    Args:
        named: What the user named: of these texts, the import paths of what has been imported.
    """
    known = (f"{module}.{name}" for module, names in OF_A_RUN.items() for name in names)
    imported = (text for text in named if _imported(text) is not None)
    allowed = {path for given in (*known, *BEFORE_FOLDERS, *imported) for path in (given, _defined_as(given))}
    parsing_settings["import_path_verdicts"] = {"*": False} | dict.fromkeys(allowed, True)


def texts_in(dumped: str) -> set[str]:
    """All settings that are text, as a parser dumps them."""
    return set(_strings(yaml.safe_load(dumped)))


def _strings(settings: Any) -> Iterator[str]:
    if isinstance(settings, dict | list):
        for value in settings.values() if isinstance(settings, dict) else settings:
            yield from _strings(value)
    elif isinstance(settings, str):
        yield settings


def _defined_as(path: str) -> str:
    """The import path by which a class or function knows itself."""
    found = _imported(path)
    return f"{found.__module__}.{found.__qualname__}" if hasattr(found, "__qualname__") else path


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(sys.modules.get(module), name, None)
