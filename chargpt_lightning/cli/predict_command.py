"""The `predict` command line that has given settings."""

import shlex

from chargpt_lightning.sampling.config import SampleConfig
from chargpt_lightning.utils.console import program_name

LONGEST_PROMPT = 500  # on a command line, in characters


def predict_command(name: str, config: SampleConfig) -> str:
    """Returns the command line that writes the samples of `config` on a CPU, for a POSIX shell.

    A prompt that is long, or that no command line can contain, is read from a file, which a comment asks for.

    Args:
        name: The checkpoint's `--ckpt_path`.
        config: The settings; those that have their default are left out.
    """
    values, note = vars(config), ""
    if len(config.prompt) > LONGEST_PROMPT or "\0" in config.prompt or config.prompt.startswith("FILE:"):
        values, note = values | {"prompt": "FILE:prompt.txt"}, "# after saving the prompt as prompt.txt:\n"
    changed = {setting: value for setting, value in values.items() if value != getattr(SampleConfig, setting)}
    flags = [f"--sample.{setting}={'null' if value is None else value}" for setting, value in changed.items()]
    words = ["predict", "--ckpt_path", name, "--trainer.accelerator", "cpu", *flags]
    return f"{note}{program_name()} {shlex.join(words)}"
