"""Shards a network over devices (FSDP2)."""

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from chargpt_lightning.models.base import LanguageModel


def shard(network: LanguageModel, mesh: DeviceMesh) -> None:
    """Shards each block and the network itself over a mesh; does nothing if they are sharded already."""
    if isinstance(network, FSDPModule):
        return
    for part in (*network.transformer.get_submodule("h").children(), network):
        fully_shard(part, mesh=mesh)
    register_fsdp_forward_method(network, "next_logits")
