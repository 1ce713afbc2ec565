"""Text that may hold anything (a file's name, what a model says) made fit for one line whose columns a tab divides."""

import unicodedata

__all__ = ["escaped", "one_line"]

# Control characters, among them tab, line end and what steers a terminal; the line and the paragraph separator.
CATEGORIES = frozenset({"Cc", "Zl", "Zp"})


def escaped(text: str) -> str:
    r"""`text` with a tab as `\t`, a line end as `\n` and so on; a text without such is as it was."""
    if text.isprintable():
        return text
    return "".join(
        each.encode("unicode_escape").decode() if unicodedata.category(each) in CATEGORIES else each for each in text
    )


def one_line(caption: str) -> str:
    """A caption with any white space as single spaces, the rest escaped."""
    return escaped(" ".join(caption.split()))
