"""What the captions are like: how long, of which words, how many a model would cut, and which of them look wrong.

`inspect_texts` reads all captions once. `inspect_captions` counts their tokens too, those of a tokenizer trained on the
captions themselves, as training does it; of very many captions an evenly spaced part trains it. What looks wrong is
told kind by kind, each with the captions it was seen in: a few words of advice are worth more than a score.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from systems.pixel_llm.data.distributions import Bar, Spread, histogram, spread_of
from systems.pixel_llm.data.folder import PICTURE_EXTENSIONS
from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.tokenizer import CaptionTokenizer

__all__ = ["CaptionsReport", "SuspectCaption", "TextsReport", "inspect_captions", "inspect_texts"]

MAX_TRAINING_CAPTIONS = 100_000
"""Of the tokenizer. More of them hardly change what it learns."""
VOCAB_SIZE = 50_000
"""The model's own ceiling."""

FREQUENT_SHARE = 0.05
"""A caption that is the text of more than this share of all captions says little about any picture."""
FREQUENT_COUNT = 5
LETTERS_SHARE = 0.5
LONG_FACTOR = 4
LONG_WORDS = 30
"""A caption is very long above this many words and LONG_FACTOR times the median."""
MAIN_SCRIPT_SHARE = 0.8
LEAST_ADVISED_LENGTH = 16

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_CAMERA_NAME = re.compile(r"(img|dsc|dscn|dscf|pxl|image|photo|screenshot|pic)[\W_]*\d[\w.\- ]*", re.IGNORECASE)
_MARKUP = re.compile(r"</?[a-z][^<>]*>|&[a-z]+;|&#\d+;|https?://|www\.", re.IGNORECASE)
_PLACEHOLDERS = frozenset(
    {"nan", "none", "null", "n/a", "na", "todo", "tbd", "undefined", "unknown", "caption", "test"}
)


@dataclass(frozen=True)
class SuspectCaption:
    """A caption that looks wrong."""

    path: PicturePath
    """The picture it is of."""
    caption: str
    why: str


@dataclass(frozen=True, kw_only=True)
class TextsReport:
    """What was found out about all captions by reading them."""

    num_captions: int
    num_distinct: int
    words: Spread
    """A caption's length in words."""
    word_bars: tuple[Bar, ...]
    num_words: int
    """Different words, in small letters."""
    num_rare_words: int
    """Those among them that occur once."""
    most_common_words: tuple[tuple[str, int], ...]
    most_common_captions: tuple[tuple[str, int], ...]
    suspects: tuple[SuspectCaption, ...]

    @property
    def suspect_share(self) -> float:
        """Of the captions, those that look wrong."""
        return len(self.suspects) / self.num_captions if self.num_captions else 0.0


@dataclass(frozen=True, kw_only=True)
class CaptionsReport(TextsReport):
    """What was found out about all captions, their tokens counted too."""

    tokens: Spread
    """A caption's length in tokens, the end mark included."""
    token_bars: tuple[Bar, ...]
    max_seq_len: int
    """What was asked about."""
    cut_share: float
    """Of the captions, those that `max_seq_len` would cut."""
    advised_max_seq_len: int
    """The least multiple of 8 that cuts no caption, or one in a hundred where those are more than twice as long."""
    tokenizer_size: int
    """Tokens that a tokenizer learns from these captions."""


def inspect_captions(samples: Sequence[Sample], *, max_seq_len: int) -> CaptionsReport:
    """The report on the captions of `samples`, at least one."""
    captions = [caption for sample in samples for caption in sample.captions]
    distinct = dict.fromkeys(captions)
    tokenizer = CaptionTokenizer.train(captions[:: -(-len(captions) // MAX_TRAINING_CAPTIONS)], vocab_size=VOCAB_SIZE)
    length_of = {caption: count + 1 for caption, count in zip(distinct, tokenizer.count_tokens(distinct), strict=True)}
    token_counts = sorted(length_of[caption] for caption in captions)
    texts = inspect_texts(samples)
    return CaptionsReport(
        **{field.name: getattr(texts, field.name) for field in fields(texts)},
        tokens=spread_of(token_counts),
        token_bars=histogram(token_counts, least_width=1),
        max_seq_len=max_seq_len,
        cut_share=sum(count > max_seq_len for count in token_counts) / len(captions),
        advised_max_seq_len=_advised_max_seq_len(token_counts),
        tokenizer_size=tokenizer.vocab_size,
    )


def _advised_max_seq_len(ordered: Sequence[int]) -> int:
    longest, almost_longest = ordered[-1], ordered[(len(ordered) - 1) * 99 // 100]
    # A few that ramble on should not decide for all.
    wanted = longest if longest <= 2 * almost_longest else almost_longest
    return max(LEAST_ADVISED_LENGTH, -(-wanted // 8) * 8)


def inspect_texts(samples: Sequence[Sample], *, most_common: int = 30) -> TextsReport:
    """The report on the captions of `samples`, at least one, without their tokens."""
    pairs = [(sample.image_path, caption) for sample in samples for caption in sample.captions]
    captions = [caption for _, caption in pairs]
    times = Counter(captions)
    words = {caption: [word.lower() for word in _WORD.findall(caption)] for caption in times}
    word_times: Counter[str] = Counter()
    for caption, count in times.items():
        for word in words[caption]:
            word_times[word] += count
    word_counts = [len(words[caption]) for caption in captions]
    return TextsReport(
        num_captions=len(captions),
        num_distinct=len(times),
        words=spread_of(word_counts),
        word_bars=histogram(word_counts, least_width=1),
        num_words=len(word_times),
        num_rare_words=sum(count == 1 for count in word_times.values()),
        most_common_words=tuple(word_times.most_common(most_common)),
        most_common_captions=tuple(times.most_common(most_common)),
        suspects=tuple(_suspects(pairs, times, words)),
    )


def _suspects(
    pairs: Sequence[tuple[PicturePath, str]], times: Counter[str], words: dict[str, list[str]]
) -> list[SuspectCaption]:
    """Each caption that looks wrong, in order, with the first of the reasons that it gives."""
    of_caption = _reasons_of_captions(times, words)
    found = []
    for path, caption in pairs:
        reason = "is the file's name" if _is_file_name(caption, path) else of_caption.get(caption)
        if reason is not None:
            found.append(SuspectCaption(path, caption, reason))
    return found


def _reasons_of_captions(times: Counter[str], words: dict[str, list[str]]) -> dict[str, str]:
    """Caption -> what is wrong with its text, for those of which that can be told without the picture."""
    num_captions = sum(times.values())
    median_words = spread_of([len(words[caption]) for caption in times]).median
    script_of = {caption: _script(caption) for caption in times}
    script_times = Counter(script for caption in times if (script := script_of[caption]) is not None)
    main_script, main_count = script_times.most_common(1)[0] if script_times else (None, 0)
    has_main_script = main_count >= MAIN_SCRIPT_SHARE * sum(script_times.values())
    tests: list[tuple[str, Callable[[str], bool]]] = [
        ("is empty", lambda caption: not caption.strip()),
        ("stands for a caption that is missing", lambda caption: caption.strip(" .").lower() in _PLACEHOLDERS),
        ("holds markup or a link", lambda caption: _MARKUP.search(caption) is not None),
        ("is mostly not letters", lambda caption: not _is_mostly_letters(caption)),
        (
            f"is in another script than the others ({str(main_script).title()})",
            lambda caption: has_main_script and script_of[caption] not in (None, main_script),
        ),
        ("is very long", lambda caption: len(words[caption]) > max(LONG_WORDS, LONG_FACTOR * median_words)),
        (
            "is the caption of many pictures",
            lambda caption: times[caption] >= max(FREQUENT_COUNT, FREQUENT_SHARE * num_captions),
        ),
    ]
    found = {}
    for caption in times:
        reason = next((reason for reason, is_wrong in tests if is_wrong(caption)), None)
        if reason is not None:
            found[caption] = reason
    return found


def _is_file_name(caption: str, path: PicturePath) -> bool:
    """Whether a caption is a file's name: this one's, or one as cameras give it.

    A name with spaces is one that a person wrote for the picture, so that it is the caption too may be meant.
    """
    is_any_name = " " not in caption and Path(caption).suffix.lower() in PICTURE_EXTENSIONS
    is_own_name = " " not in path.stem and caption.casefold() == path.stem.casefold()
    return is_any_name or is_own_name or _CAMERA_NAME.fullmatch(caption) is not None


def _is_mostly_letters(caption: str) -> bool:
    if sum(map(str.isalpha, caption)) >= LETTERS_SHARE * len(caption) > 0:
        return True  # so are most, and looking at each letter takes ten times as long
    visible = [each for each in caption if not each.isspace()]
    # Signs that join to a letter (accents, vowel signs) are part of it.
    letters = sum(unicodedata.category(each)[0] in "LM" for each in visible)
    return letters >= LETTERS_SHARE * max(1, len(visible))


def _script(caption: str) -> str | None:
    """The script that most letters of a caption are in ("LATIN", "CYRILLIC", "CJK", ...), None without letters."""
    if caption.isascii():
        return "LATIN" if any(each.isalpha() for each in caption) else None
    scripts = Counter(unicodedata.name(each, "").partition(" ")[0] for each in caption if each.isalpha())
    for script in ("HIRAGANA", "KATAKANA"):
        scripts["CJK"] += scripts.pop(script, 0)  # Japanese mixes them
    return scripts.most_common(1)[0][0] if scripts.total() else None
