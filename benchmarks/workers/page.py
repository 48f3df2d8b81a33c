"""The page of `play`, asked for a text as a browser asks: when it can be opened, and how fast it writes."""

import json
import shlex
import socket
import subprocess
import sys
import time

from gradio_client import Client

from benchmarks.contenders import CHARGPT
from benchmarks.figures import Figures


def measure(run: str, characters: int, texts: int) -> Figures:
    """Serves the page for a run; the rate is that of several texts, without their first characters."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start_s = time.perf_counter()
    command = [*CHARGPT, "play", "--ckpt_path", run, "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as page:
        try:
            if not any(line.startswith("page: ") for line in page.stderr or ()):
                raise RuntimeError(f"{shlex.join(command)} ended before it served the page")
            opened_s = time.perf_counter() - start_s
            client = Client(f"http://127.0.0.1:{port}/", verbose=False)
            client.predict(api_name="/lists")  # as the page does when it is opened
            write_s(client, run, 1)  # the first text takes longer
            first_s, all_s = (sum(write_s(client, run, length) for _ in range(texts)) for length in (1, characters))
        finally:
            page.terminate()
    return {"start_s": opened_s, "characters_per_s": texts * (characters - 1) / (all_s - first_s)}


def write_s(client: Client, run: str, characters: int) -> float:
    """Returns the seconds until a text is complete, with the settings that the page begins with."""
    start_s = time.perf_counter()
    client.predict(run, "", characters, 0.8, 200, 1, 1337, "refuse", api_name="/write")
    return time.perf_counter() - start_s


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
