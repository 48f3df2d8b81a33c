"""The memory of training and evaluation does not grow with the text."""

import shutil
import sys
from pathlib import Path

import pytest
from support.command_line import VERSE
from support.nanogpt_folder import prepare
from support.processes import Python

from chargpt_lightning.data.windows import MAX_SHUFFLED

PEAK = r"""
import re, sys
from itertools import islice
from pathlib import Path
from chargpt_lightning import CharDataModule
data = CharDataModule(sys.argv[1])
for loader in (data.train_dataloader(), *data.val_dataloader()):
    for _ in islice(loader, 2000):
        pass
print(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))[1])
"""


def many_verses(form: str, repetitions: int) -> str:
    """Writes a large text: a file, two files, or a folder of nanoGPT's; returns the value of data.text for it."""
    if form == "folder":
        shutil.rmtree("large", ignore_errors=True)
        for path in prepare("large", VERSE).glob("*.bin"):
            path.write_bytes(path.read_bytes() * repetitions)
        return "large"
    files = 2 if form == "files" else 1
    for number in range(files):
        Path(f"{number}.large").write_text(VERSE * (repetitions // files), encoding="utf-8")
    return "*.large"


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize("form", ["file", "files", "folder"])
def test_memory_does_not_grow_with_the_text(form):
    peaks_kib = []
    for repetitions in (20_000, 1_000_000):  # 1 and 67 MB
        peaks_kib.append(int(Python("-c", PEAK, many_verses(form, repetitions)).result().out))
    shuffled_kib = MAX_SHUFFLED * 8 // 1024
    assert peaks_kib[1] - peaks_kib[0] < shuffled_kib + 8 * 1024, peaks_kib
