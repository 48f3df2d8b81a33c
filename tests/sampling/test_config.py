"""Settings for sampling, and the random numbers of a sample."""

import pytest
import torch

from chargpt_lightning.sampling.config import SampleConfig
from chargpt_lightning.utils.errors import ConfigError


def test_uniforms_depend_on_seed_and_n_only():
    def uniforms(seed, n, tokens=40):
        return SampleConfig(seed=seed, max_new_tokens=tokens).uniforms(n)

    assert torch.equal(uniforms(1, 2), uniforms(1, 2))
    assert torch.equal(uniforms(1, 2), uniforms(1, 2, tokens=1000)[:40])
    assert len({tuple(uniforms(seed, n).tolist()) for seed in range(5) for n in range(5)}) == 25


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_samples": 0}, "num_samples (0) must be at least 1"),
        ({"max_new_tokens": 0}, "max_new_tokens (0) must be at least 1"),
        ({"top_k": 0}, "top_k (0) must be at least 1"),
        ({"temperature": -0.1}, "temperature (-0.1) must be at least 0 and finite"),
        ({"temperature": float("nan")}, "temperature (nan) must be at least 0 and finite"),
        ({"top_p": 0.0}, "top_p (0.0) must be above 0 and at most 1"),
        ({"top_p": 1.1}, "top_p (1.1) must be above 0 and at most 1"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ConfigError) as error:
        SampleConfig(**setting)
    assert str(error.value) == message
