"""Tiny Shakespeare, nanoGPT's text, downloaded once."""

import logging
from pathlib import Path

import pooch

from chargpt_lightning.errors import ConfigError

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30


def fetch_tinyshakespeare(cache: Path) -> Path:
    """The path of the text in a cache; pooch checks it, and moves a new file there only when it is whole and right.

    Raises:
        ConfigError: If it is not there, and the download cannot be had.
    """
    pooch.get_logger().setLevel(logging.WARNING)  # the progress bar says enough
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S))
    name = "tinyshakespeare.txt"
    try:
        return Path(pooch.retrieve(URL, SHA256, name, cache, downloader=downloader))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
        reason = type(error).__name__ if isinstance(error, OSError) else "the file there has another SHA-256"
        raise ConfigError(
            f"data.text (tinyshakespeare) must come from {URL} ({reason}), "
            f"or lie ready as {cache / name}; `--data.text plays` needs no network"
        ) from error
