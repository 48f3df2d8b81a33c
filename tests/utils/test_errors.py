"""The checks that all modules share."""

import pytest

from chargpt_lightning.utils.errors import ConfigError, require_package, require_positive


@pytest.mark.parametrize("value", [0, -3])
def test_a_count_below_one_is_refused_by_name_and_value(value):
    require_positive(batch_size=1, limit=None)
    with pytest.raises(ConfigError) as error:
        require_positive(batch_size=1, limit=value)
    assert str(error.value) == f"limit ({value}) must be at least 1"


def test_a_missing_package_is_refused_with_how_to_install_it():
    require_package("plot", "runs", "json")
    with pytest.raises(ConfigError) as error:
        require_package("plot", "runs", "no_such_package")
    assert str(error.value) == "plot (runs) needs the package no_such_package: pip install no_such_package"
    with pytest.raises(ConfigError, match=r": pip install no_such_package==3\.0\.0$"):
        require_package("plot", "runs", "no_such_package", "==3.0.0")
