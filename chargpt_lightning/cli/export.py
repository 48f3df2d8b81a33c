"""The subcommand `export`: converts a checkpoint to another program's format."""

import logging
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from chargpt_lightning.checkpoints.convert import as_file, read_any_checkpoint
from chargpt_lightning.checkpoints.huggingface import write_folder
from chargpt_lightning.checkpoints.nanogpt import write_nanogpt
from chargpt_lightning.checkpoints.onnx import write_onnx
from chargpt_lightning.cli.help import SUBCOMMANDS
from chargpt_lightning.module import CharGPT
from chargpt_lightning.utils.atomic import make_directory_atomically
from chargpt_lightning.utils.errors import ConfigError, require_package
from chargpt_lightning.utils.run_dir import find_checkpoint

log = logging.getLogger(__name__)

Format = Literal["nanogpt", "hf", "onnx"]
PACKAGES = {"hf": "transformers", "onnx": "onnxscript"}


def export(format: Format, out: Path, ckpt_path: str = "best", out_dir: Path = Path("runs")) -> None:
    """Converts a checkpoint to the format of another program.

    Args:
        format: nanogpt writes ckpt.pt and meta.pkl, hf writes a folder for transformers' AutoModelForCausalLM and
            AutoTokenizer, onnx a model.onnx for ONNX Runtime and the like.
        out: The directory to write, which must be new or empty.
        ckpt_path: A checkpoint of this package, nanoGPT or Hugging Face; a run's directory, which stands for its best
            one; `best` and `last` are those of the newest run in `out_dir`.
        out_dir: A directory of runs, or nanoGPT's directory with a ckpt.pt.

    Raises:
        ConfigError: If the checkpoint cannot be read, if the other program does not support its network, or if `out`
            is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"out ({out}) must be a new or empty directory")
    if format in PACKAGES:
        require_package("format", format, PACKAGES[format])
    path = find_checkpoint(ckpt_path, out_dir)
    log.info("checkpoint: %s", path)
    checkpoint, _ = read_any_checkpoint(path)
    network = CharGPT.load_from_checkpoint(as_file(checkpoint, path))
    if format != "onnx" and (architecture := network.hparams["architecture"]) != "gpt2":
        raise ConfigError(
            f"architecture ({architecture}) must be gpt2 to export, because {format} supports no other; "
            "--format onnx supports both"
        )
    checkpoint["hyper_parameters"] = dict(network.hparams)  # with the defaults that an older checkpoint lacks
    with make_directory_atomically(out) as directory:
        match format:
            case "nanogpt":
                write_nanogpt(checkpoint, directory, home=out)
            case "hf":
                write_folder(checkpoint, directory)
            case "onnx":
                write_onnx(network.gpt, network.hparams["alphabet"], directory)
    log.info("exported to %s, in the format %s", out, format)


def export_parser(prog: str) -> ArgumentParser:
    """Returns the parser of `export`, whose flags are the arguments of the function."""
    parser = ArgumentParser(
        prog=prog,
        usage="%(prog)s --format nanogpt|hf|onnx --out DIR [--ckpt_path CKPT] [--out_dir DIR]",
        description=SUBCOMMANDS["export"],
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_function_arguments(export)
    return parser
