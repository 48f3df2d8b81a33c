"""nanoGPT's data folders."""

import pickle
from pathlib import Path

import numpy as np


def meta(alphabet: str) -> dict[str, object]:
    """The content of nanoGPT's meta.pkl."""
    stoi = {character: id for id, character in enumerate(alphabet)}
    return {"vocab_size": len(alphabet), "itos": dict(enumerate(alphabet)), "stoi": stoi}


def prepare(folder: str, text: str, alphabet: str | None = None, border: int | None = None) -> Path:
    """Writes a data folder as nanoGPT's prepare.py does, or with another alphabet or border."""
    alphabet = "".join(sorted(set(text))) if alphabet is None else alphabet
    border = int(len(text) * 0.9) if border is None else border
    path = Path(folder)
    path.mkdir(parents=True)
    for name, part in (("train.bin", text[:border]), ("val.bin", text[border:])):
        np.array([alphabet.index(character) for character in part], np.uint16).tofile(path / name)
    (path / "meta.pkl").write_bytes(pickle.dumps(meta(alphabet)))
    return path
