"""Sharding over a mesh of one device; `end_to_end/test_devices.py` has two."""

import pytest
import torch
from support.platforms import several_devices
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule

from chargpt_lightning import GPT, GPTConfig, ModernGPT
from chargpt_lightning.models.sharding import shard

pytestmark = several_devices


@pytest.fixture
def mesh(tmp_path):
    init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,), mesh_dim_names=("data_parallel",))
    destroy_process_group()


@torch.no_grad()
@pytest.mark.parametrize("network", [GPT, ModernGPT])
def test_each_block_and_the_network_are_sharded_and_compute_the_same(network, mesh):
    torch.manual_seed(0)
    sharded = network(GPTConfig(vocab_size=5, block_size=8, n_layer=2, n_head=2, n_embd=8)).eval()
    ids = torch.tensor([[1, 2, 3, 4]])
    logits, last = sharded(ids), sharded.next_logits(ids, sharded.new_caches())
    for _ in range(2):  # Lightning may call configure_model more than once
        shard(sharded, mesh)
    assert isinstance(sharded, FSDPModule)
    assert all(isinstance(block, FSDPModule) for block in sharded.transformer.h)
    torch.testing.assert_close(sharded(ids), logits, rtol=0, atol=0)
    torch.testing.assert_close(sharded.next_logits(ids, sharded.new_caches()), last, rtol=0, atol=0)
