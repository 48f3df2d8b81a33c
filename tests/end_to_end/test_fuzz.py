"""Reads mutations of valid files, about ten seconds for each reader; `fuzz.py` does so guided by coverage."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.platforms import needs
from support.readers import READERS, make_valid_files, read

EXAMPLES = {
    **{"checkpoint": 120, "command": 25, "meta": 1500, "hugging_face": 150},
    **{"settings": 20, "metrics": 150, "cache": 250, "nanogpt_file": 1500},
}


@pytest.mark.slow
@needs("transformers")
@needs("matplotlib")
@pytest.mark.filterwarnings("ignore")  # those of other packages about values that no valid file has
@pytest.mark.parametrize("name", READERS)
def test_a_mutated_file_is_read_or_refused_in_one_line(run, name):
    make_valid_files(run)
    suppressed = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]

    @settings(
        max_examples=EXAMPLES[name], deadline=None, database=None, derandomize=True, suppress_health_check=suppressed
    )
    @given(data=st.data())
    def read_mutations(data):
        read(READERS[name], lambda number: data.draw(st.integers(0, number - 1)))

    read_mutations()
