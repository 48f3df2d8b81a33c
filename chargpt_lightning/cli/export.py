"""`export`: a checkpoint as other programs have theirs."""

import logging
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from chargpt_lightning.checkpoints.convert import as_file, read_as_ours
from chargpt_lightning.checkpoints.huggingface import write_folder
from chargpt_lightning.checkpoints.nanogpt import write_nanogpt
from chargpt_lightning.module import CharGPT
from chargpt_lightning.utils.atomic import make_whole
from chargpt_lightning.utils.errors import ConfigError, require_package
from chargpt_lightning.utils.run_dir import newest_checkpoint

log = logging.getLogger(__name__)


def export(format: Literal["nanogpt", "hf"], out: Path, ckpt_path: str = "best") -> None:
    """Writes a checkpoint as another program has it.

    Args:
        format: nanogpt is a ckpt.pt and its meta.pkl, hf a folder for transformers' AutoModelForCausalLM and
            AutoTokenizer.
        out: The directory to make.
        ckpt_path: A checkpoint of ours, nanoGPT's or Hugging Face's, or `best` or `last` of the newest run in runs/.

    Raises:
        ConfigError: If there is no such checkpoint, if the other program has no such network, or if `out` is there.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"out ({out}) must be a directory that is new or empty")
    if format == "hf":
        require_package("format", format, "transformers")
    path = newest_checkpoint(Path("runs"), ckpt_path) if ckpt_path in ("best", "last") else Path(ckpt_path)
    log.info("checkpoint: %s", path)
    checkpoint, _ = read_as_ours(path)
    network = CharGPT.load_from_checkpoint(as_file(checkpoint, path))
    if (architecture := network.hparams["architecture"]) != "gpt2":
        raise ConfigError(f"architecture ({architecture}) must be gpt2 to be exported, for {format} has no other")
    checkpoint["hyper_parameters"] = dict(network.hparams)  # also what an older checkpoint does not say
    with make_whole(out) as directory:
        if format == "hf":
            write_folder(checkpoint, directory)
        else:
            write_nanogpt(checkpoint, directory, home=out)
    log.info("%s: %s", format, out)


def export_parser(prog: str) -> ArgumentParser:
    """The flags of `export`, which are the arguments of the function."""
    parser = ArgumentParser(
        prog=prog,
        usage="%(prog)s --format nanogpt|hf --out DIR [--ckpt_path CKPT]",
        description="Writes a checkpoint as another program has it.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_function_arguments(export)
    return parser
