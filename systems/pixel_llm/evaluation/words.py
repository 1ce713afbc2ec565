"""Captions to words, as the COCO caption evaluation has them: Penn Treebank words in lower case, without punctuation.

Scores over words can only be compared where the words are the same: splitting at spaces costs some twenty points of
CIDEr. `tokenize_captions` is what all scores here use; `TOKENIZER` names it in their signatures, and its number goes up
whenever any caption would come out otherwise. A caption is cut at white space; each piece is then cut by one
regular expression, once, since most pieces come again: "dog's" is "dog" and "'s", "don't" is "do" and "n't",
"black-and-white" stays whole, the dot stays at "st." and "u.s.". The marks in `PUNCTUATION` are dropped; others, as "&"
and "-lrb-" for a bracket, stay, as they do there.

The rules are those of Penn Treebank tokenisation (R. MacIntyre, 1995) as the published evaluation (X. Chen et al.,
"Microsoft COCO Captions", 2015, section 3.1) shows them by its output; tests compare the two where it is installed.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

__all__ = ["PUNCTUATION", "TOKENIZER", "tokenize_caption", "tokenize_captions"]

TOKENIZER = "ptb.1"
"""Name and version of the tokenisation, for signatures."""

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
"""What the COCO evaluation drops. Its brackets are written large and compared after lower-casing: they all stay."""


def tokenize_captions(captions: Iterable[str]) -> list[list[str]]:
    """The words of each caption, in order."""
    return [tokenize_caption(caption) for caption in captions]


def tokenize_caption(caption: str) -> list[str]:
    """The words of one caption.

    >>> tokenize_caption("The man's T-shirt doesn't fit (at all)!")
    ['the', 'man', "'s", 't-shirt', 'does', "n't", 'fit', '-lrb-', 'at', 'all', '-rrb-']
    """
    if not caption.isascii():
        caption = _ODD_CHARACTER.sub("", caption.translate(_PLAIN))
    words: list[str] = []
    pieces = caption.split()
    for index, piece in enumerate(pieces):
        if piece[-1] == "." and len(piece) < 6:
            words += _words_before(piece, pieces[index + 1] if index + 1 < len(pieces) else "")
        else:
            words += _words_of_piece(piece)
    return words


def _words_before(piece: str, following: str) -> tuple[str, ...]:
    """The words of a piece with a dot at its end, which what follows may decide; "" follows at the end of a caption."""
    if piece in _NUMBERED and following[:1].isdigit():
        return (piece.lower(),)
    if len(piece) == 2 and piece[0].isalpha() and (following in _OPENING or (not following and piece[0].isupper())):
        return (piece[0].lower(),)
    return _words_of_piece(piece)


_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‛", "'"),
        **dict.fromkeys("“”„«»", '"'),
        **dict.fromkeys("–—―", "--"),
        "…": "...",
        "\u00ad": "",
        "\u200b": " ",
        "½": "1/2",
        "¼": "1/4",
        "¾": "3/4",
        "⅓": "1/3",
        "⅔": "2/3",
        "£": "#",
        "€": "$",
        "¢": " cents ",
    }
)
_ODD_CHARACTER = re.compile("[\U00010000-\U0010ffff\ufe0f\u200d\ufeff]")
"""Emoji and marks without width, which the COCO evaluation drops."""

_ABBREVIATIONS = (
    # titles and names
    "mr mrs ms mlle mme messrs dr drs prof rev fr hon st ste jr sr esq gen col lt lieut maj capt cpl sgt msgr pvt pfc "
    "cmdr comdr gov sen sens rep reps pres supt atty asst alex jos wm "
    # days, months, states
    "mon tue tues wed thurs fri jan feb mar apr jul jun aug sept oct nov dec ala ariz calif colo conn dak fla ga ind "
    "kan kans ky md mich minn mo mont neb nev okla penn tenn va vt wisc wis wyo "
    # places, firms, the rest
    "ave blvd rd rt ct ft bldg mt co cos corp inc ltd plc bros cie mfg pty assn assoc dept univ intl insp brig al etc "
    "vs v cf est ext adj adm adv sq tel"
)
_CAPITAL_ABBREVIATIONS = "Ark Del Ill La Mass Miss Ore Pa Tex Wash"
"""Words of their own unless they begin with a capital."""
_BEFORE_A_NUMBER = "art ca fig no nos op pp prop"
"""They keep their dot where a number follows."""
_OPENERS = (
    "A About After An As At But He Her Here However If In It Many More Now One Other Our She Since So Some Such That "
    "The Their Then There These They This We What When While Yet You"
)
"""Before these, the dot after a single letter ends a sentence. So it does at the end of a caption, after a capital: in
the published evaluation the next caption is the next sentence, and most begin with A."""

_NUMBERED = frozenset(
    form + "." for each in _BEFORE_A_NUMBER.split() for form in (each, each.capitalize(), each.upper())
)
_OPENING = frozenset(_OPENERS.split())

_LETTER = r"[^\W\d_]"
_APOSTROPHE_WORDS = rf"(?:o'{_LETTER}{{2,}}|[dl]'{_LETTER}{{2,}}|ma'am|c'mon|s'mores)"
_PART = rf"(?:{_APOSTROPHE_WORDS}|{_LETTER}*[aeiou]'[aeiou]{_LETTER}*|\w+)"
_TOKEN = re.compile(
    "|".join(
        [
            r"https?://\S+|www\.[\w./-]*\w",
            r"[\w.+-]{1,64}@\w[\w-]*(?:\.\w+)+",
            r"</?[a-z][^<>]*>",
            r"[@#][a-z_]\w*",
            r"[:;=]-?[()]",
            # contractions: what stands before the end of a word of which the next token is the rest
            r"can(?=not\b)|gon(?=na\b)|got(?=ta\b)|wan(?=na\b)|lem(?=me\b)|gim(?=me\b)",
            r"'t(?=is\b|was\b)",
            r"y'(?=\w)",
            rf"{_LETTER}+?(?=n't(?!\w))|n't(?!\w)",
            r"'n'|'(?:s|m|d|re|ve|ll|em|til|cause|n)(?!\w)|(?<!\w)'\d\ds?(?!\w)",
            # words with dots inside and after
            rf"(?:{_LETTER}\.)+{_LETTER}(?!\.?\w)\.?|ph\.d\.|{_LETTER}\.(?!{_LETTER}|_|\.)",
            rf"(?:{_ABBREVIATIONS.replace(' ', '|')})\.(?![\w.])|no\.(?=\d)",
            rf"(?-i:{_CAPITAL_ABBREVIATIONS.replace(' ', '|')})\.(?![\w.])",
            rf"{_LETTER}[\w-]*(?:\.{_LETTER}[\w-]*)+",
            r"(?-i:[A-Z]+&[A-Z]+)",
            # numbers and words, with hyphens and slashes inside
            r"\d+(?:[.,]\d+)+(?:-\w+)*|\d*(?::\d+)+|[-+]?\.\d+|[-+]\d+(?:[.,]\d+)*",
            rf"{_PART}(?:[-/]{_PART})*",
            r"[!?]+|\.+|-+|''|``|.",
        ]
    ),
    re.IGNORECASE,
)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_DROPPED = re.compile(r"['`\".?!,:;]|''|``|\.+|-+")


@lru_cache(maxsize=1 << 16)
def _words_of_piece(piece: str) -> tuple[str, ...]:
    """The words of what stands between two spaces."""
    if piece.isalpha() and piece.lower() not in _TWO_WORDS:
        return (piece.lower(),)
    tokens: list[str] = _TOKEN.findall(piece.replace("&amp;", "&"))
    kept = (token.lower() for token in tokens if not _DROPPED.fullmatch(token))
    return tuple("".join(_BRACKETS.get(letter, letter) for letter in token) for token in kept)


_TWO_WORDS = frozenset(["cannot", "gonna", "gotta", "wanna", "lemme", "gimme"])
