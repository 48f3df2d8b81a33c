"""Writes a network as an ONNX file, which other runtimes execute without Python or torch."""

import json
from pathlib import Path

import torch

from chargpt_lightning.models.base import LanguageModel


def write_onnx(network: LanguageModel, alphabet: str, directory: Path) -> None:
    """Writes model.onnx: a graph that maps `ids` (B, T), int64, to `logits` (B, T, V), float32.

    B is any number of texts, T from 1 to block_size. The file's metadata has `alphabet`, in the order of the ids, and
    `block_size`, both as JSON.

    Args:
        network: The network of either architecture.
        alphabet: All characters in the order of their ids.
        directory: An existing directory.
    """
    config = network.config
    length = torch.export.Dim("T", min=1, max=config.block_size) if config.block_size > 1 else torch.export.Dim.STATIC
    ids = torch.zeros(2, config.block_size, dtype=torch.int64)
    program = torch.onnx.export(
        network.eval(),
        (ids,),
        input_names=["ids"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("B", max=2**31), 1: length},),
        dynamo=True,  # the default since torch 2.9
        verbose=False,
    )
    assert program is not None, "`dynamo` makes it a program"
    facts = {"alphabet": json.dumps(alphabet), "block_size": json.dumps(config.block_size)}
    program.model.metadata_props.update(facts)
    program.save(directory / "model.onnx")
