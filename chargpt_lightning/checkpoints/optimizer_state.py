"""Numbers the weights in an optimizer's state so that every strategy can load it.

torch numbers weights in the order of the parameter groups, and loads a state by that order. FSDP2 loads it by number,
counted in the order of the network's parameters. With these numbers, both load it.
"""

from itertools import chain
from typing import Any

from torch import nn


def number_by_position(checkpoint: dict[str, Any], module: nn.Module, groups: list[dict[str, Any]]) -> bool:
    """Numbers the weights in a checkpoint's optimizer states by their position in a module.

    Args:
        checkpoint: Content of a checkpoint; changed in place.
        module: The network, or a module that contains it.
        groups: The optimizer's parameter groups; a state of other groups is left as it is.

    Returns:
        Whether a state has changed.
    """
    positions = {parameter: number for number, parameter in enumerate(module.parameters())}
    if not all(parameter in positions for group in groups for parameter in group["params"]):  # sharded ones
        return False
    numbers = [[positions[parameter] for parameter in group["params"]] for group in groups]
    states = checkpoint.get("optimizer_states", [])
    others = [index for index, state in enumerate(states) if _are_others(_numbers(state), numbers)]
    for index in others:
        states[index] = renumbered(states[index], numbers)
    return bool(others)


def renumbered(optimizer: dict[str, Any], numbers: list[list[int]]) -> dict[str, Any]:
    """Returns an optimizer's state with these numbers for the weights of each group."""
    groups = [group | {"params": new} for group, new in zip(optimizer["param_groups"], numbers, strict=True)]
    new_of = dict(zip(chain(*_numbers(optimizer)), chain(*numbers), strict=True))
    return {"state": {new_of[old]: state for old, state in optimizer["state"].items()}, "param_groups": groups}


def _numbers(optimizer: dict[str, Any]) -> list[list[int]]:
    return [group["params"] for group in optimizer.get("param_groups", [])]


def _are_others(before: list[list[int]], numbers: list[list[int]]) -> bool:
    """Whether these are other numbers for the same groups."""
    return before != numbers and list(map(len, before)) == list(map(len, numbers))
