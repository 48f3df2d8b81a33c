"""The weights in an optimizer's state are numbered by their position in the network, or left as they are."""

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from chargpt_lightning.checkpoints.optimizer_state import number_by_position


@pytest.fixture
def network() -> nn.Module:
    """Its parameters: weight, bias, weight, bias."""
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def trained(network: nn.Module) -> tuple[dict, list[dict]]:
    """A checkpoint after an update of an optimizer with a group of weights and one of biases, and its groups."""
    groups = [{"params": [layer.weight for layer in network]}, {"params": [layer.bias for layer in network]}]
    optimizer = AdamW([dict(group) for group in groups])
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {"optimizer_states": [optimizer.state_dict()]}, groups


def test_weights_are_numbered_as_in_the_network(network):
    checkpoint, groups = trained(network)
    before = checkpoint["optimizer_states"][0]["state"]
    assert number_by_position(checkpoint, network, groups)
    (state,) = checkpoint["optimizer_states"]
    assert [group["params"] for group in state["param_groups"]] == [[0, 2], [1, 3]]
    assert {new: state["state"][new]["exp_avg"].shape for new in range(4)} == {
        number: parameter.shape for number, parameter in enumerate(network.parameters())
    }
    assert state["state"][2] is before[1]
    assert not number_by_position(checkpoint, network, groups)


def test_a_state_of_other_groups_is_left_as_it_is(network):
    checkpoint, _ = trained(network)
    before = checkpoint["optimizer_states"][0]
    assert not number_by_position(checkpoint, network, [{"params": [*network.parameters()]}])
    assert checkpoint["optimizer_states"][0] is before


@pytest.mark.parametrize("checkpoint", [{}, {"optimizer_states": [{}]}], ids=["only weights", "of a second device"])
def test_a_checkpoint_without_a_state_is_left_as_it_is(network, checkpoint):
    assert not number_by_position(checkpoint, network, trained(network)[1])
    assert checkpoint.get("optimizer_states", [{}]) == [{}]
