"""Memory that a step frees and asks for again."""

import os
import subprocess
import sys

import pytest

FAULTS_OF_A_STEP = """
import resource
import torch
from chargpt_lightning.utils.hardware import keep_freed_memory

def step():
    activations = [torch.ones(2**19) for _ in range(8)]  # 2 MiB each

if {keep}:
    keep_freed_memory()
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 10)
"""


GLIBCS_START = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}  # named, they do not move


def faults_of_a_step(keep: bool) -> int:
    command, env = [sys.executable, "-c", FAULTS_OF_A_STEP.format(keep=keep)], os.environ | GLIBCS_START
    return int(subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=120).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries keep their own ways")
def test_a_step_finds_the_memory_that_the_step_before_it_freed():
    assert faults_of_a_step(keep=False) > 100
    assert faults_of_a_step(keep=True) < 10
