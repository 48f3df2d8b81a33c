"""The page of `play` in a real browser."""

import math
import os
import re
import shlex
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from support.browser import chromium, in_a_browser
from support.command_line import VERSE
from support.platforms import needs
from support.processes import MODULE, Python

from chargpt_lightning import CharGPT

pytestmark = [pytest.mark.slow, needs("gradio"), in_a_browser]

PATIENCE_MS = 60_000
LONGEST = 2000  # characters that the page draws


@pytest.fixture(scope="module")
def runs(runs_of_tiny, tmp_path_factory) -> Path:
    """Where the page is served: the run of TINY, and an older one of a network that takes seconds to write."""
    folder = tmp_path_factory.mktemp("play")
    shutil.copytree(runs_of_tiny, folder / "runs")
    slow = shutil.copytree(runs_of_tiny / "version_0", folder / "runs/slow/version_0")
    os.utime(slow / "config.yaml", ns=(0, 0))
    replace_network(slow / "checkpoints/best.ckpt", n_layer=6, n_embd=256, block_size=64)
    return folder


def replace_network(path: Path, **shape: int) -> None:
    """Replaces the network of a checkpoint by one that is initialized otherwise, and may have another shape."""
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"] |= shape
    torch.manual_seed(1)
    checkpoint["state_dict"] = CharGPT(**checkpoint["hyper_parameters"]).state_dict()
    torch.save(checkpoint, path)


@pytest.fixture(scope="module")
def address(serve, runs) -> str:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(runs)
        _, address = serve()
    return address


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


BARS = """charts => charts.map(chart => [...chart.querySelectorAll(".confidence-set")].map(
    row => [row.querySelector("dt").innerText, Number(row.querySelector("meter").getAttribute("value"))]))"""


class Page:
    """The page as a reader uses it; `hosts` are those that the browser asked for anything."""

    def __init__(self, browser, address: str) -> None:
        self.hosts: set[str] = set()
        self.context = browser.new_context(viewport={"width": 1280, "height": 1000})
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(PATIENCE_MS)
        self.tab.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.tab.goto(address)
        self.tab.locator(".confidence-set").first.wait_for()  # the bars for an empty prompt

    def set(self, **settings: object) -> None:
        """Fills inputs, by the names of the settings; a slider has a number beside it."""
        for name, value in settings.items():
            fields = self.tab.get_by_label(name, exact=False)
            number = fields.and_(self.tab.locator("input[type=number], textarea")).first
            number.fill(str(value))
            number.blur()

    def press(self, name: str) -> None:
        self.tab.get_by_role("button", name=name).click()

    def choose(self, label: str) -> None:
        """Chooses a checkpoint."""
        self.tab.get_by_label("Checkpoint").click()
        self.tab.get_by_role("option", name=label).click()

    def open(self, name: str) -> None:
        self.tab.get_by_role("tab", name=name).click()

    def write(self, **settings: object) -> str:
        """Sets, generates, and returns the finished text."""
        self.set(**settings)
        before = self.command()
        self.press("Generate")
        if settings:
            self.wait(lambda: self.command() != before)
        length = int(self.tab.get_by_label("max_new_tokens").and_(self.tab.locator("input[type=number]")).input_value())
        self.wait(lambda: len(self.tokens()) == 1 + length)
        return self.text()

    def wait(self, condition) -> None:
        for _ in range(PATIENCE_MS // 50):
            if condition():
                return
            self.tab.wait_for_timeout(50)
        raise TimeoutError(self.tab.locator("body").inner_text()[:2000])

    def command(self) -> str:
        return self.tab.locator("label", has_text="Copy the command").locator("textarea").input_value()

    def tokens(self) -> list[str]:
        return self.tab.locator(".characters:visible .text").all_text_contents()

    def click(self, character: int) -> None:
        """Clicks a character, counted from 1, and waits until it is marked."""
        self.tab.locator(".characters .text").nth(character).click()
        self.wait(lambda: self.marked() == character)

    def marked(self) -> int:
        """The number of the marked character; 0 if there is none."""
        return next((n for n, color in enumerate(self.colors()) if n and not color.endswith(" 0)")), 0)

    def colors(self) -> list[str]:
        """The background of each token, as CSS."""
        tokens = self.tab.locator(".characters:visible .token")
        return tokens.evaluate_all("tokens => tokens.map(token => token.style.backgroundColor)")

    def text(self) -> str:
        return "".join(self.tokens()).replace("↵\n", "\n")

    def bars(self) -> list[dict[str, float]]:
        """The labels and values of both charts, read at one instant."""
        charts = self.tab.locator(".block:has(> .container .confidence-set)")
        return [dict(rows) for rows in charts.evaluate_all(BARS)]

    def message(self, part: str) -> None:
        """Waits for a message with this part, and closes it."""
        toast = self.tab.get_by_test_id("toast-body").filter(has_text=part)
        toast.wait_for()
        toast.get_by_test_id("toast-close").click()
        toast.wait_for(state="hidden")


@pytest.fixture
def page(browser, address):
    page = Page(browser, address)
    yield page
    page.context.close()


@pytest.fixture
def network(runs) -> CharGPT:
    return CharGPT.load_from_checkpoint(runs / "runs/version_0")


def test_write_gives_the_text_of_predict_and_uses_no_other_host(page, address, runs, network, monkeypatch):
    text = page.write(prompt="When shall", max_new_tokens=40, temperature=1.5, top_k=9, top_p=0.9, seed=7)
    assert text == network.sample("When shall", 40, 1.5, 9, 0.9, 7)
    assert page.hosts == {urlsplit(address).netloc}
    monkeypatch.chdir(runs)
    words = shlex.split(page.command())
    result = Python(*MODULE, *words[words.index("predict") :]).result()
    assert (result.code, result.out) == (0, text + "\n")


def test_why_shows_what_was_expected_at_the_character_that_is_clicked(page, network):
    text = page.write(prompt="Wh", max_new_tokens=6, temperature=1.2)
    page.click(3)
    drawn = {" ": "space", "\n": "newline"}.get(text[4], text[4])
    page.wait(lambda: f"{drawn} (drawn)" in page.bars()[0])
    before, after = page.bars()
    for bars, expected in (
        (before, network.next_probabilities(text[:4])),
        (after, network.next_probabilities(text[:4], 1.2)),
    ):
        assert bars[f"{drawn} (drawn)"] == pytest.approx(expected[text[4]], abs=1e-6)
    page.set(temperature=0)
    page.wait(lambda: page.bars()[1] != after)
    assert page.bars()[0] == before
    assert max(page.bars()[1].values()) == 1
    page.set(prompt="Whe")
    page.wait(lambda: page.bars()[0] != before)
    page.wait(lambda: page.marked() == 0)


def test_why_follows_the_prompt_while_it_is_typed(page, network):
    for prompt in ("When", "When s"):
        expected = [*network.next_probabilities(prompt).values()][:10]
        page.set(prompt=prompt)
        page.wait(lambda expected=expected: [*page.bars()[0].values()] == pytest.approx(expected, abs=1e-6))


def test_stop_ends_the_writing_of_the_network_that_is_chosen(page, runs, network):
    page.choose("runs/slow/version_0, val loss")
    page.set(prompt="When", max_new_tokens=LONGEST)
    page.press("Generate")
    page.wait(lambda: len(page.tokens()) > 1)
    page.press("Stop")
    page.tab.wait_for_timeout(1000)
    page.click(1)  # shows what the server has
    written = page.text()
    assert len(written) < len("When") + LONGEST
    page.tab.wait_for_timeout(1000)
    page.click(2)
    assert page.text() == written
    slow = CharGPT.load_from_checkpoint(runs / "runs/slow/version_0")
    assert slow.sample("When", len(written) - len("When")) == written
    page.choose("runs/version_0, val loss")
    assert page.write(prompt="In", max_new_tokens=9) == network.sample("In", 9)


def test_surprise_shades_each_character_and_has_the_loss_of_the_text(page, network):
    page.open("Surprise")
    page.tab.get_by_label("text", exact=True).fill("When 😀<b>shall\n")
    page.press("How surprised is it?")
    surprisals = network.surprisals("When shall\n") / math.log(2)
    page.wait(lambda: len(page.tokens()) == 11)
    assert page.text() == "When shall\n"
    figures = page.tab.get_by_label("The loss of the text").input_value()
    assert figures.startswith(f"{surprisals.mean():.4f} bits per character")
    assert figures.endswith("Not in the vocabulary, left out: '😀<b>'")
    alphas = [float(re.search(r"([\d.]+)\)$", color)[1]) for color in page.colors()[1:]]
    assert alphas == pytest.approx((surprisals / 8).tolist(), abs=0.01)


def test_learning_draws_the_run_again_when_it_has_more_and_compares_its_checkpoints(page, runs):
    page.set(prompt="When", max_new_tokens=20)
    page.open("Learning")
    picture = page.tab.get_by_test_id("matplotlib").locator("img")
    picture.wait_for()
    first = picture.get_attribute("src")
    with (runs / "runs/version_0/metrics.csv").open("a+", encoding="utf-8") as metrics:
        metrics.seek(0)
        names = metrics.readline().strip().split(",")
        metrics.write(",".join({"step": "9", "val/loss": "2.5"}.get(name, "") for name in names) + "\n")
    page.wait(lambda: picture.get_attribute("src") != first)
    page.press("Write with each checkpoint")
    for name in ("best.ckpt", "last.ckpt"):
        text = page.tab.get_by_label(name)
        text.wait_for()
        network = CharGPT.load_from_checkpoint(runs / "runs/version_0/checkpoints" / name)
        assert text.input_value() == network.sample("When", 20)


def test_learning_asks_for_nothing_under_other_tabs(page):
    page.open("Learning")
    page.tab.get_by_test_id("matplotlib").locator("img").wait_for()
    page.open("Write")
    page.tab.wait_for_timeout(1000)
    asked = []
    page.tab.on("request", lambda request: asked.append(request.url))
    page.tab.wait_for_timeout(11_000)  # the curves are drawn again after ten seconds
    assert not [url for url in asked if "join" in url]
    page.open("Learning")
    page.wait(lambda: [url for url in asked if "join" in url])


def test_two_browsers_do_not_mix_their_texts(browser, address, page, runs):
    slow = CharGPT.load_from_checkpoint(runs / "runs/slow/version_0")
    others = (page, "When"), (Page(browser, address), "In")
    for one, prompt in others:
        one.choose("runs/slow/version_0, val loss")
        one.set(prompt=prompt, max_new_tokens=150)
    for one, _ in others:
        one.press("Generate")
    page.wait(lambda: min(len(one.tokens()) for one, _ in others) > 1)
    assert max(len(one.tokens()) for one, _ in others) < 151  # both are being written
    for one, prompt in others:
        one.wait(lambda one=one: len(one.tokens()) == 151)
        assert one.text() == slow.sample(prompt, 150)
    others[1][0].context.close()


def test_browsers_that_are_killed_leave_the_page_to_others(browser, address, page, network):
    killed = [Page(browser, address) for _ in range(8)]  # as many as may write at the same time
    for one in killed:
        one.choose("runs/slow/version_0, val loss")
        one.set(prompt="When", max_new_tokens=LONGEST)
        one.press("Generate")
    for one in killed:
        one.wait(lambda one=one: len(one.tokens()) > 1)
        one.context.close()
    assert page.write(prompt="In", max_new_tokens=9) == network.sample("In", 9)


def test_a_hostile_prompt_gets_a_message_and_is_shown_as_text(page, network):
    page.tab.on("dialog", lambda dialog: pytest.fail("a script ran"))
    for prompt, character in (("😀", "😀"), ("<img src=x onerror=alert(1)>", "<"), ("<script>alert(1)</script>", "<")):
        page.set(prompt=prompt)
        page.press("Generate")
        page.message(f"prompt ('{character}' at position 0) must use only the 21 characters")
    page.tab.get_by_label("skip").click()
    page.set(max_new_tokens=9)
    page.press("Generate")
    page.message("left out 12 characters of the prompt")
    page.wait(lambda: page.text().startswith("sritalertsrit") and len(page.tokens()) == 10)
    assert page.write(prompt="In", max_new_tokens=9) == network.sample("In", 9)


def test_a_number_out_of_range_gets_a_message_and_an_empty_one_works(page):
    page.set(temperature="", top_k="", top_p="", seed="")  # the browser sends 0, or nothing
    assert page.write(prompt="In", max_new_tokens=9).startswith("In")
    assert page.tab.get_by_test_id("toast-body").count() == 0
    page.set(top_k=-3)
    page.message("top_k (-3) must be at least 1")


PASTE = "(field, text) => { field.value = text; field.dispatchEvent(new Event('input', { bubbles: true })); }"


def test_a_prompt_of_a_megabyte_is_continued(page, network):
    prompt = VERSE * 15_000
    page.set(max_new_tokens=9)
    page.tab.get_by_label("prompt").evaluate(PASTE, prompt)
    page.press("Generate")
    page.wait(lambda: "FILE:prompt.txt" in page.command() and len(page.tokens()) == 10)
    assert page.text() == prompt[-3000:] + network.sample(prompt, 9)[-9:]


def test_a_checkpoint_that_vanishes_gets_a_message_and_a_replaced_one_is_read_again(page, runs, network):
    path = runs / "runs/version_0/checkpoints"
    assert page.write(prompt="In", max_new_tokens=9) == network.sample("In", 9)
    path.rename(path.with_name("away"))
    try:
        page.press("Generate")
        page.message("ckpt_path (runs/version_0) must be a run with a checkpoint, but it has none yet")
    finally:
        path.with_name("away").rename(path)
    saved = (path / "best.ckpt").read_bytes()
    try:
        replace_network(path / "best.ckpt")
        other = CharGPT.load_from_checkpoint(path / "best.ckpt")
        assert page.write(prompt="When", max_new_tokens=60) == other.sample("When", 60) != network.sample("When", 60)
    finally:
        (path / "best.ckpt").write_bytes(saved)
