"""A command line that cannot be parsed is explained: the flag that was probably meant, or where to put the word."""

from pathlib import Path

import pytest
import yaml
from support.command_line import TINY, refused

from chargpt_lightning.cli.suggestions import EXTENDING, closest, explanation
from chargpt_lightning.utils.console import program_name

FLAGS = ["trainer.accelerator", "trainer.max_steps", "data.text", "data.batch_size", "sample.prompt", "ckpt_path"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("data.txt", "data.text"),
        ("max_steps", "trainer.max_steps"),
        ("max_step", "trainer.max_steps"),
        ("trainer.acelerator", "trainer.accelerator"),
        ("prompt", "sample.prompt"),
        ("model.prompt", "sample.prompt"),
        ("data.batchsize", "data.batch_size"),
        ("ckpt", "ckpt_path"),
        ("model.lr", "model.learning_rate"),
        ("steps", "trainer.max_steps"),
        ("zzz", None),
    ],
)
def test_the_flag_with_the_same_end_or_nearly_the_same_name_is_meant(name, meant):
    assert closest(name, FLAGS) == meant


@pytest.mark.parametrize(
    ("message", "explained"),
    [
        ("unrecognized arguments: --data.txt=x y", "--data.txt is no setting of fit; did you mean --data.text?"),
        ("unrecognized arguments: --max_iter 5", "--max_iter is no setting of fit; did you mean --max_iters?"),
        ("unrecognized arguments: -data.text x", "-data.text is no setting of fit; did you mean --data.text?"),
        (
            "unrecognized arguments: --model.help",
            "--model.help is no setting of fit; `{0} fit --help` lists all settings",
        ),
        (
            "Parser key \"data\": Unable to load config 'a.txt' - more",
            f"--data (a.txt) must be a YAML file with settings of data (a text is --data.text a.txt); {EXTENDING}",
        ),
        ("unrecognized arguments: --zzz", "--zzz is no setting of fit; `{0} fit --help` lists all settings"),
        ("unrecognized arguments: a.yaml", "a config file (a.yaml) must follow --config: {0} fit --config a.yaml"),
        ("unrecognized arguments: a.txt", "'a.txt' must follow a flag; `{0} fit --help` lists all settings"),
        (
            "Subcommand 'predict' does not accept option 'predict.sample.promt'",
            "sample.promt is no setting of predict; did you mean sample.prompt?",
        ),
        (
            "unrecognized arguments: --optimizer.lr 1",
            f"--optimizer.lr is no setting of fit, whose --model.optimizer is adamw or muon; {EXTENDING}",
        ),
        (
            "Parser key \"model\": Unable to load config 'mine.GPT' - more",
            f"--model (mine.GPT) must be a YAML file with settings of model; {EXTENDING}",
        ),
        ("another error", "another error"),
    ],
)
def test_an_error_of_the_parser_is_explained(message, explained):
    assert explanation(message, {"fit": FLAGS, "predict": ["sample.prompt"]}) == explained.format(program_name())


CLASS = "must be the name of a class of Lightning's, or the import path of another"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--trainer.callbacks", "EarlyStoping"],
            f"trainer.callbacks (EarlyStoping) {CLASS}; did you mean EarlyStopping?",
        ),
        (["--trainer.callbacks+=Zzz"], f"trainer.callbacks (Zzz) {CLASS}"),
        (["--trainer.logger", "Tensorbord"], f"trainer.logger (Tensorbord) {CLASS}; did you mean TensorBoard?"),
        (["--trainer.callbacks", "no_such.Thing"], "trainer.callbacks (no_such.Thing): No module named 'no_such'"),
        (
            ["--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.patiense", "3"],
            "trainer.callbacks (lightning.pytorch.callbacks.EarlyStopping): Option 'patiense' is not accepted",
        ),
    ],
)
def test_a_class_that_is_not_there_or_refuses_its_settings_is_named(run, args, message):
    assert refused(run, *TINY, *args) == message


def test_a_mistake_is_explained_on_the_command_line_and_in_a_file(run):
    assert refused(run, *TINY, "--data.txt", "x") == "--data.txt is no setting of fit; did you mean --data.text?"
    assert refused(run, "plot", "--ouput", "x") == "--ouput is no setting of plot; did you mean --out?"
    message = "--starts is no setting of plot; `chargpt plot --help` lists all settings"  # --start is nanoGPT's
    assert refused(run, "plot", "--starts", "x") == message
    Path("mine.yaml").write_text(yaml.safe_dump({"data": {"txt": "x"}}), encoding="utf-8")
    message = "data.txt is no setting of fit; did you mean data.text?"
    assert refused(run, "fit", "--config", "mine.yaml") == message
    Path("mine.yaml").write_text(yaml.safe_dump({"model": {"class_path": "mine.GPT"}}), encoding="utf-8")
    assert refused(run, "fit", "--config", "mine.yaml").endswith(EXTENDING)
    assert refused(run, "fit", "--model", "mine.GPT").startswith("--model (mine.GPT) must be a YAML file")
