"""Fuzzes a reader of files: mutations are chosen by the code that they reach. Needs atheris, which no extra installs:

    python tests/end_to_end/fuzz.py checkpoint -max_total_time=300

Every file must be accepted, or refused by a ConfigError, within seconds. The first that is not ends the run with its
traceback; with the path of the `crash-*` that atheris then writes as last argument, it is read again.
"""

import os
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))  # as pytest does
from support.command_line import VERSE


def main() -> None:
    """Fuzzes the reader that the first argument names; the others are libFuzzer's."""
    import atheris  # here, because it is no dependency of the tests

    with atheris.instrument_imports(include=["chargpt_lightning"]):
        from support import readers

        from chargpt_lightning.__main__ import main as command_line

    name, corpus = sys.argv.pop(1), Path("corpus").absolute()
    (corpus / name).mkdir(parents=True, exist_ok=True)

    def read_one(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        readers.read(readers.READERS[name], lambda number: provider.ConsumeIntInRange(0, number - 1))

    with tempfile.TemporaryDirectory() as directory:
        os.environ["XDG_CACHE_HOME"] = directory
        os.chdir(directory)
        Path("verse.txt").write_text(VERSE * 20, encoding="utf-8")
        readers.make_valid_files(lambda *args: command_line([*args]))
        atheris.Setup([*sys.argv, f"-artifact_prefix={corpus.parent}/", str(corpus / name)], read_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
