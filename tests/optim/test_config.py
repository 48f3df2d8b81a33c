"""The optimizer's settings, and which weights are in which group of parameters."""

import pytest
import torch
from support.bare_trainer import FAST, tiny
from torch.optim import AdamW

from chargpt_lightning.optim.muon import Muon
from chargpt_lightning.utils.errors import ConfigError


def test_matrices_and_embeddings_decay_vectors_do_not():
    module = tiny(bias=True, weight_decay=0.3)
    decaying, others = module.optimizer_config.groups(module.gpt)
    names = {parameter: name for name, parameter in module.gpt.named_parameters()}
    assert decaying["weight_decay"] == 0.3
    assert others["weight_decay"] == 0.0
    assert {names[p] for p in decaying["params"]} == {
        "transformer.wte.weight",
        "transformer.wpe.weight",
        *(f"transformer.h.0.{part}.weight" for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")),
    }
    assert len(decaying["params"]) + len(others["params"]) == len(list(module.parameters()))


def test_muon_updates_the_matrices_of_the_blocks():
    module = tiny(**FAST, weight_decay=0.3, muon_learning_rate=0.05, muon_momentum=0.8)
    matrices, vectors, of_muon = module.optimizer_config.groups(module.gpt)
    names = {parameter: name for name, parameter in module.gpt.named_parameters()}
    assert {names[p] for p in matrices["params"]} == {"transformer.wte.weight", "lm_head.weight"}
    assert {names[p] for p in of_muon["params"]} == {
        f"transformer.h.0.{part}.weight" for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    assert sum(len(group["params"]) for group in (matrices, vectors, of_muon)) == len(names)
    assert (of_muon["lr"], of_muon["momentum"], of_muon["weight_decay"]) == (0.05, 0.8, 0.3)
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate (0.0) must be above 0 and finite"),
        ({"learning_rate": float("nan")}, "learning_rate (nan) must be above 0 and finite"),
        ({"min_lr": 0.1}, "min_lr (0.1) must be from 0 to learning_rate (0.001)"),
        ({"warmup_iters": -1}, "warmup_iters (-1) must be at least 0"),
        ({"lr_decay_iters": 0}, "lr_decay_iters (0) must be at least 1"),
        ({"optimizer": "sgd"}, "optimizer (sgd) must be adamw or muon"),
        ({"lr_decay": "sqrt"}, "lr_decay (sqrt) must be cosine or linear"),
        ({"muon_learning_rate": -1.0}, "muon_learning_rate (-1.0) must be above 0 and finite"),
        ({"muon_momentum": 1.0}, "muon_momentum (1.0) must be at least 0 and below 1"),
        ({"constant_iters": -1}, "constant_iters (-1) must be at least 0"),
        ({"weight_decay": -0.1}, "weight_decay (-0.1) must be at least 0 and finite"),
        ({"beta1": 1.0}, "beta1 (1.0) must be at least 0 and below 1"),
        ({"beta2": -1.0}, "beta2 (-1.0) must be at least 0 and below 1"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ConfigError) as error:
        tiny(**setting)
    assert str(error.value) == message


def test_the_learning_rate_ratio_is_relative_to_the_peak():
    config = tiny(learning_rate=0.1, min_lr=0.01, warmup_iters=0, lr_decay_iters=10).optimizer_config
    assert [config.learning_rate_ratio(step) for step in (0, 5, 10)] == pytest.approx([1.0, 0.55, 0.1])
    assert tiny(decay_lr=False, warmup_iters=100).optimizer_config.learning_rate_ratio(0) == 1.0


@pytest.mark.parametrize(("name", "kind"), [("adamw", AdamW), ("muon", Muon)])
def test_the_optimizer_is_built_with_its_groups(name, kind):
    module = tiny(optimizer=name)
    optimizer, scheduler = module.optimizer_config.build(module.gpt, fused=True, dtype=torch.float32)
    assert type(optimizer) is kind
    assert [group["params"] for group in optimizer.param_groups] == [
        group["params"] for group in module.optimizer_config.groups(module.gpt)
    ]
    assert scheduler.optimizer is optimizer


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_new_settings_replace_those_of_an_optimizer(optimizer):
    """As of a resumed run, whose settings may have changed."""
    schedule = {"optimizer": optimizer, "warmup_iters": 0, "lr_decay_iters": 10}
    old, new = tiny(**schedule), tiny(**schedule, learning_rate=0.1, min_lr=0.01, weight_decay=0.3)
    built, scheduler = old.optimizer_config.build(old.gpt, fused=True, dtype=torch.float32)
    weights = [group["params"] for group in built.param_groups]
    new.optimizer_config.apply(built, scheduler, old.gpt, step=5)
    assert [group["params"] for group in built.param_groups] == weights
    assert built.param_groups[0]["weight_decay"] == 0.3
    assert built.param_groups[0]["lr"] == pytest.approx(0.055)
    assert scheduler.base_lrs[0] == 0.1
    assert [ratio(5) for ratio in scheduler.lr_lambdas] == pytest.approx([0.55] * len(weights))
