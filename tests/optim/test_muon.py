"""Muon against an exact polar decomposition, against torch's own Muon, and against AdamW for the other weights."""

from copy import deepcopy

import pytest
import torch

from chargpt_lightning.optim import muon
from chargpt_lightning.optim.muon import POLYNOMIALS, Muon, orthogonalized

SHAPES = [(32, 32), (96, 32), (32, 128)]
ADAMW = {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}
MUON = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}


def matrices(rows: int, columns: int, smallest: float, dtype=torch.float64) -> torch.Tensor:
    """Four matrices with singular values from `smallest` to 1."""
    generator = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(4, rows, columns, generator=generator, dtype=dtype), full_matrices=False)
    values = torch.logspace(float(torch.tensor(smallest).log10()), 0, u.size(2), dtype=dtype)
    return 7 * u * values @ v


def test_the_polynomials_map_values_from_a_hundredth_to_one_near_one():
    x = torch.logspace(-2, 0, 100_000, dtype=torch.float64)
    for (a, b, c), within in zip(POLYNOMIALS, (0.92, 0.71, 0.27), strict=True):
        x = a * x + b * x**3 + c * x**5
        assert within - 0.01 < (x - 1).abs().max() < within + 0.001


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_the_result_is_near_the_exact_polar_factor(rows, columns):
    given = matrices(rows, columns, smallest=0.1)  # above a hundredth of the norm
    u, _, v = torch.linalg.svd(given, full_matrices=False)
    result = orthogonalized(given)
    error = torch.linalg.matrix_norm(result - u @ v, ord=2)
    assert 0.1 < error.max() < 0.2701
    in_bf16 = orthogonalized(given.bfloat16()).double()
    assert torch.linalg.matrix_norm(in_bf16 - u @ v, ord=2).max() < 0.27 + 0.06


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_directions_stay_and_small_singular_values_grow_within_the_bound(rows, columns):
    given = matrices(rows, columns, smallest=1e-6)
    u, values, v = torch.linalg.svd(given, full_matrices=False)
    became = u.mT @ orthogonalized(given) @ v.mT
    diagonal = became.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(became, torch.diag_embed(diagonal), atol=1e-9, rtol=0)
    assert (diagonal <= 78.4 * values / values.norm(dim=1, keepdim=True)).all()
    assert (diagonal > 0).all()


def test_zeros_stay_zeros():
    assert torch.equal(orthogonalized(torch.zeros(2, 4, 8)), torch.zeros(2, 4, 8))


def problem(optimizer_of) -> dict[str, torch.Tensor]:
    """Five updates towards targets; the weights after them."""
    torch.manual_seed(0)
    weights = {
        f"{rows}x{columns}/{n}": torch.nn.Parameter(torch.randn(rows, columns))
        for rows, columns in SHAPES
        for n in (0, 1)
    }
    weights |= {"embedding": torch.nn.Parameter(torch.randn(11, 16)), "norm": torch.nn.Parameter(torch.ones(16))}
    targets = {name: torch.randn_like(weight) for name, weight in weights.items()}
    optimizers = optimizer_of(weights)
    for _ in range(5):
        for optimizer in optimizers:
            optimizer.zero_grad()
        sum(((weights[name] - target) ** 2).sum() for name, target in targets.items()).backward()
        for optimizer in optimizers:
            optimizer.step()
    return {name: weight.detach() for name, weight in weights.items()}


def with_muon(weights, dtype=torch.float32) -> list[torch.optim.Optimizer]:
    of_muon = [weight for name, weight in weights.items() if "x" in name]
    rest = [{"params": [weights["embedding"]], **ADAMW}, {"params": [weights["norm"]], **ADAMW, "weight_decay": 0.0}]
    return [Muon([*rest, {"params": of_muon, **MUON}], fused=True, dtype=dtype)]


def with_torchs_muon(weights) -> list[torch.optim.Optimizer]:
    of_muon = [weight for name, weight in weights.items() if "x" in name]
    rest = [{"params": [weights["embedding"]], **ADAMW}, {"params": [weights["norm"]], **ADAMW, "weight_decay": 0.0}]
    return [torch.optim.Muon(of_muon, **MUON), torch.optim.AdamW(rest, fused=True)]


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon since 2.9")
def test_against_torchs_muon_and_adamw(monkeypatch):
    monkeypatch.setattr(muon, "POLYNOMIALS", ((3.4445, -4.7750, 2.0315),) * 5)  # torch's
    expected = problem(with_torchs_muon)
    for name, weight in problem(lambda weights: with_muon(weights, torch.bfloat16)).items():
        tolerance = 0.0 if name in ("embedding", "norm") else 2e-3  # an update is 0.02 and rounded otherwise
        torch.testing.assert_close(weight, expected[name], atol=tolerance, rtol=0)


def test_it_resumes_from_its_state():
    weights = [torch.nn.Parameter(torch.ones(4, 8)), torch.nn.Parameter(torch.ones(3))]
    copies = [torch.nn.Parameter(torch.ones(4, 8)), torch.nn.Parameter(torch.ones(3))]

    def make(parameters):
        return Muon([{"params": parameters[1:], **ADAMW}, {"params": parameters[:1], **MUON}], True, torch.float32)

    def update(optimizer, parameters, step):
        for n, parameter in enumerate(parameters):
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(10 * step + n))
        optimizer.step()

    first, second = make(weights), make(copies)
    for step in range(3):
        update(first, weights, step)
    with torch.no_grad():
        for copy, weight in zip(copies, weights, strict=True):
            copy.copy_(weight)
    second.load_state_dict(deepcopy(first.state_dict()))
    for step in range(3, 6):
        update(first, weights, step)
        update(second, copies, step)
    assert all(map(torch.equal, weights, copies))


def test_the_closure_sees_all_groups_and_its_loss_is_returned():
    weights = [torch.nn.Parameter(torch.ones(4, 8)), torch.nn.Parameter(torch.ones(3))]
    optimizer = Muon([{"params": weights[1:], **ADAMW}, {"params": weights[:1], **MUON}], True, torch.float32)

    def closure():
        assert len(optimizer.param_groups) == 2
        loss = sum(weight.square().sum() for weight in weights)
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 35
    assert len(optimizer.param_groups) == 2
    assert all((weight != 1).all() for weight in weights)


def test_a_matrix_without_gradient_is_not_updated():
    weight = torch.nn.Parameter(torch.ones(4, 8))
    Muon([{"params": [weight], **MUON}], True, torch.float32).step()
    assert (weight == 1).all()
