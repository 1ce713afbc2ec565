"""How far captioning has come: a line a minute where no bar can be drawn, by the test's own clock."""

import logging

from systems.pixel_llm.cli.caption_progress import shown_captioning


def lines_told(caplog, *, progress="auto"):
    caplog.set_level(logging.INFO)
    times = iter([0.0, 10.0, 60.0, 100.0, 120.0, 1000.0])
    with shown_captioning(1000, progress=progress, is_printing=False, clock=lambda: next(times)) as advance:
        for count in (50, 250, 100, 200, 400):
            advance(count)
    return [record.getMessage() for record in caplog.records]


def test_a_line_a_minute_with_speed_and_time_left(caplog, capsys):
    assert lines_told(caplog) == [
        "300 of 1,000 pictures | 5.0 pictures/s | 2.3 minutes left",
        "600 of 1,000 pictures | 5.0 pictures/s | 1.3 minutes left",
    ]
    assert capsys.readouterr().err == ""


def test_off_is_silent(caplog, capsys):
    assert lines_told(caplog, progress="off") == []
    assert capsys.readouterr().err == ""


def test_a_bar_that_is_asked_for_is_drawn_on_stderr(caplog, capsys):
    assert lines_told(caplog, progress="bar") == []
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "captioning" in captured.err
