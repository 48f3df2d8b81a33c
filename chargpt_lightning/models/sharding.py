"""Shards a network over devices (FSDP2)."""

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from chargpt_lightning.models.base import LanguageModel


def shard(network: nn.Module, mesh: DeviceMesh | None) -> None:
    """Shards each block and the network over a mesh's `data_parallel`; once only, and only if there is a mesh."""
    if mesh is None or isinstance(network, FSDPModule):
        return
    blocks = network.transformer.get_submodule("h").children() if isinstance(network, LanguageModel) else ()
    for part in (*blocks, network):
        fully_shard(part, mesh=mesh["data_parallel"])
    register_fsdp_forward_method(network, "next_logits")
