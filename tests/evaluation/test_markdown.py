"""Whatever a caption or a name holds, Markdown shows it as it is and YAML reads it back."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from systems.pixel_llm.evaluation.markdown import Verbatim, code, escaped, one_line, yaml_header

HOSTILE = [
    "---", "- - -", "a --- b", "# not a title", "1. one", "> quoted", "a | b || c", "\\", "\\|", "a \\", "`code`",
    "``` x", "<script>alert(1)</script>", "<!-- x -->", "&lt;b&gt; &amp;", "[x](https://example.org)", "![x](y)",
    "*a* _b_ __c__", "~~gone~~", "$x$", "line\nend", "a\r\n\r\nb", "tab\there", "\"quoted\" and 'so'", "key: value",
    "{a: b}", "%TAG", "!!x", "yes", "null", "1e3", "", "    ", "grün 漢字 👩🏽‍🚀", "\ufeffmark", "\u202egnirts",
    "\x00\x1b[31m", "\x85\u2028\u2029",
    "\ud800", "\uffff", "snake_case_", "www.example.org", "me@example.org", "https://example.org", "…", "a" * 300,
]  # fmt: skip


HARD = 'x: "y" --- #'


def text_of(tokens):
    return "".join(token.content if token.type in ("text", "text_special") else "\n" for token in tokens)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_of_a_table_shows_the_text_and_no_more(text):
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(f"| a | b |\n| --- | --- |\n| {escaped(text)} | last |\n")
    cells = [token for token in tokens if token.type == "inline"]
    assert [text_of(cell.children) for cell in cells] == ["a", "b", one_line(text).strip(), "last"]
    assert not {"html_block", "html_inline", "hr"} & {token.type for token in tokens}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_paragraph_shows_it_too(text):
    tokens = MarkdownIt("commonmark").parse(f"says “{escaped(text)}”.\n")
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert text_of(tokens[1].children) == f"says “{one_line(text)}”."


@pytest.mark.parametrize("text", ["refs:1|tok:13a", "a`b", "*", "a\nb"])
def test_a_code_span_is_one(text):
    tokens = MarkdownIt("commonmark").parse(f"- x: {code(text)}\n")
    spans = [child for token in tokens for child in token.children or () if child.type == "code_inline"]
    assert [span.content for span in spans] == [one_line(text).replace("`", "'")]


def test_words_stay_readable():
    assert escaped("a dog, running - on the_grass (2 m). 50 % 'so'") == "a dog, running - on the_grass (2 m). 50 % 'so'"


def test_what_is_no_text_becomes_the_replacement_character():
    assert one_line(" a\x00b \ud800\n\tc\u202e ") == "a\ufffdb \ufffd c\ufffd"
    assert one_line("\u200d👩🏽‍🚀") == "\u200d👩🏽‍🚀"


@given(st.text())
@example("---")
@example("\x7f\x9f\ufffe")
def test_any_text_comes_back_from_the_header(text):
    yaml = pytest.importorskip("yaml")
    header = yaml_header({"name": text, "list": [text, {"inner": text, "number": 1}]})
    lines = header.split("\n")
    assert (lines[0], lines[-2], lines[-1]) == ("---", "---", "")
    assert "---" not in lines[1:-2]
    assert yaml.safe_load("\n".join(lines[1:-2])) == {
        "name": one_line(text), "list": [one_line(text), {"inner": one_line(text), "number": 1}]
    }  # fmt: skip


def test_the_header_as_it_is_written():
    """Without a parser of YAML: every line is a key, a dash, or a scalar of JSON."""
    header = yaml_header({"a": HARD, "b": ["u", "v"], "c": [{"d": {"e": 1e-05, "f": True}, "g": [{"h": 2.5}]}]})
    assert header == (
        f'---\na: {json.dumps(HARD)}\nb:\n- "u"\n- "v"\nc:\n- d:\n    e: 0.00001\n    f: true\n  g:\n  - h: 2.5\n---\n'
    )
    assert isinstance(header, Verbatim)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        yaml_header({"value": value})


def test_numbers_are_read_as_numbers():
    yaml = pytest.importorskip("yaml")
    values = {"a": 1e-05, "b": 1e20, "c": 0.1, "d": 0.0, "e": 3}
    assert yaml.safe_load(yaml_header(values).strip("-\n")) == values
