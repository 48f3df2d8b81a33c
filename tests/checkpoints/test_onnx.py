"""The network as ONNX: ONNX Runtime computes the same logits, for texts of any number and length."""

import json

import pytest
import torch
from support.command_line import FAST, N_GRAMS, TINY

from chargpt_lightning import CharGPT

pytestmark = pytest.mark.slow  # exporting takes ten seconds

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript", reason="of an extra, is not installed")


@pytest.mark.parametrize("flags", [[], FAST, [*FAST, *N_GRAMS], [*FAST, *N_GRAMS, "--model.block_size", "1"]])
def test_onnx_runtime_computes_the_same_logits(run, flags):
    assert run(*TINY, *flags).code == 0
    result = run("export", "--format", "onnx", "--out", "onnx")
    assert result.err.splitlines()[-1] == "exported to onnx, in the format onnx"
    session = onnxruntime.InferenceSession("onnx/model.onnx")
    facts = {name: json.loads(fact) for name, fact in session.get_modelmeta().custom_metadata_map.items()}
    module = CharGPT.load_from_checkpoint("runs/version_0/checkpoints/best.ckpt").eval()
    assert facts == {name: module.hparams[name] for name in ("alphabet", "block_size")}
    for batch, length in ((1, 1), (3, 1), (1, facts["block_size"]), (2, (facts["block_size"] + 1) // 2)):
        ids = torch.randint(len(facts["alphabet"]), (batch, length))
        (logits,) = session.run(["logits"], {"ids": ids.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), module.gpt(ids), atol=1e-4, rtol=1e-4)
