"""A run of version 0.1, from before the package had folders, resumes, validates and samples as it did then.

`run_of_0_1` contains the files of `fit` after four updates of a modern network with dropout, Muon and
EMAWeightAveraging. The figures below are those of `fit --ckpt_path last --trainer.max_steps 8`, `validate` and
`predict` in the same version, compared within a float32's rounding, because CPUs add up in different orders.
"""

import shutil
from pathlib import Path

import pytest
import yaml
from support.command_line import exact_rows
from support.platforms import needs

RUN = Path("runs/version_0")
LOSSES = [4.1569294929504395, 4.394922256469727, 4.430618762969971, 4.167050838470459]  # of updates 4 to 7
NORMS = [0.8497194051742554, 0.8352028727531433, 0.8170574307441711, 0.8452393412590027]
VAL_LOSSES = [4.126158311963081, 4.126237392425537, 4.12441236525774, 4.1225264966487885, 4.1207906901836395]
SAMPLE = "ROMEO:kvmO:xPL&FQitpaJRj.Iuo$TPaop,z:MeICXkd$GO,fHiWDN ?p\nvj?bV U?\n"


@pytest.fixture
def old_run() -> Path:
    shutil.copytree(Path(__file__).with_name("run_of_0_1"), RUN)
    return RUN


def column(name: str) -> list[float]:
    return [float(row[name]) for row in exact_rows(RUN) if row[name]]


def test_it_resumes_as_it_did_then(run, old_run):
    result = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "8")
    assert result.code == 0, result.err
    assert "resuming runs/version_0 at step 4" in result.err
    assert column("val/loss") == pytest.approx(VAL_LOSSES, rel=1e-6)
    assert column("train/loss")[4:] == pytest.approx(LOSSES, rel=1e-6)
    assert column("grad_norm")[4:] == pytest.approx(NORMS, rel=1e-5)
    validated = yaml.safe_load(run("validate", "--trainer.accelerator", "cpu").out)
    assert validated["loss"] == pytest.approx(4.316667, abs=2e-6)
    sampling = ["--sample.num_samples", "1", "--sample.max_new_tokens", "60", "--sample.prompt", "ROMEO:"]
    assert run("predict", "--trainer.accelerator", "cpu", *sampling).out == SAMPLE


@needs("tensorboard")
@pytest.mark.parametrize(
    "settings",
    [
        {"logger": {"class_path": "chargpt_lightning.loggers.TensorBoard"}},
        {
            "callbacks": {
                "class_path": "lightning.pytorch.callbacks.ThroughputMonitor",
                "init_args": {
                    "batch_size_fn": "chargpt_lightning.windows.windows_in",
                    "length_fn": "chargpt_lightning.windows.characters_in",
                },
            }
        },
    ],
    ids=["loggers", "windows"],
)
def test_its_config_may_name_classes_by_their_old_modules(run, old_run, settings):
    config = yaml.safe_load((old_run / "config.yaml").read_text(encoding="utf-8"))
    config["trainer"] |= {name: [value] for name, value in settings.items()}
    (old_run / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    result = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "5", "--trainer.log_every_n_steps", "1")
    assert result.code == 0, result.err
    written = (old_run / "config.yaml").read_text(encoding="utf-8")
    assert all(name in written for name in str(settings).split("'") if name.startswith("lightning."))
