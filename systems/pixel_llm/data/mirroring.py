"""What a mirror does to a caption: left and right change places, or it forbids the mirror. English only.

A picture may be mirrored where each of its captions survives that. A caption does not survive it where

1. it may quote what is written in the picture: it has a figure, a quotation mark, a word in capitals, or a word for
   writing ("sign", "reads", "letters"); or a letter that is not Latin, since those languages are not known here;
2. it has another word for a side that a mirror makes wrong: clockwise, starboard, lefty;
3. it says left or right, and one time at least it is not plain that a side is meant.

A side is plainly meant in these places: left hand, right front (`_PARTS`); leftmost, right-handed; (left); left to
right; on the left, to his right, at top left, on right, facing left, where no other word follows than those known to
leave the sense as it is. All else is taken for doubtful: right now, all right, right behind, left over, has left, the
right size. The rules would rather leave ten pictures as they are than make one caption wrong.
"""

import re

__all__ = ["mirrored_caption", "survives_mirror"]


def _one_of(words: str) -> str:
    return rf"(?:{'|'.join(words.split())})"


_WRITING = re.compile(
    r"""\d|["“”„‟«»‘‹›`]|(?<!\w)'[^']+'(?!\w)|[^\W\d_\u0000-\u024f]|\b"""
    + _one_of(
        "alphabets? autograph(?:s|ed)? banners? barcodes? billboards? calendars? caption(?:s|ed)? clocks? "
        "compass(?:es)? digits? engrav(?:ed|ings?) fonts? globes? graffiti handwriting handwritten headlines? "
        "initials? inscri\\w+ label(?:s|ed|led)? letter(?:s|ed|ing)? logos? magazines? maps? marquees? menus? "
        "mono(?:gram|grams|grammed) mottos? name[ds]? newspapers? number(?!\\s+of) number(?:s|ed) numerals? "
        "o'clock placards? plaques? posters? printed quot(?:es?|ed|ing|ations?) read reads reading say says "
        "saying scoreboards? scripts? sentences? sign(?:s|age|ed|ing|ature|atures|posts?)? slogans? "
        "spell(?:s|ed|ing)? spelt stating stickers? subtitles? tattoo(?:s|ed)? texts? titles? titled words? "
        "worded wording writ(?:es?|ing|ings|ten) wrote"
    )
    + r"\b|\blicen[cs]e\s+plate",
    re.IGNORECASE,
)
# Things that are called so and do not bear the name; and L and R, which may mean sides.
_CAPITALS = re.compile(r"\b(?!(?:LEFT|RIGHT|ATV|BMX|CD|DVD|PC|RV|SUV|TV)\b)[A-Z]{2,}\b|\b[LR]\b")
_OTHER_SIDES = re.compile(
    r"\b(?:(?:anti-?|counter-?)?clockwise|starboard|port side|left(?:y|ies)|right(?:y|ies))\b", re.IGNORECASE
)
_SEEN_BEFORE = 60
"""Characters before a side that decide its sense: more than any of the phrases below."""
_SIDE = re.compile(r"\b(left|right)(most|wards?|hand|handed|hander|handers)?\b", re.IGNORECASE)

# What comes in a left and a right one: then the side is meant, but for a few turns of speech and where the word may be
# the verb ("they have left hand prints").
_PARTS = re.compile(
    r"(?:-facing|[\s-]+"
    + _one_of(
        "ankles? arms?(?!\\s+in\\b) arrows? breast cheek corners? curve ears? edge eyes? eyebrow fist foot "
        "forearm front hand(?!\\s+(?:in|man)\\b) hands handed hander handers headlight hind hip hook index "
        "knee lane legs? limb margin most nostril pane paws? pocket rear shoulders? "
        "sides?(?!\\s+(?:up|by)\\b) sided sleeve temple thigh thumb turn tusk wards? wrist"
    )
    + r")\b",
    re.IGNORECASE,
)
_AFTER_VERB = re.compile(
    r"\b(?:are|be|been|being|had|has|have|having|he|I|is|just|she|that|they|was|we|were|who|you)\s+$", re.IGNORECASE
)
# "Left to right", but not "left to the right of the door", where it may be the verb.
_OTHER_OF_PAIR_AFTER = re.compile(r"(?:\s+(?:and|or|to)\s+|[-/])(?:left|right)\b", re.IGNORECASE)
_OTHER_OF_PAIR_BEFORE = re.compile(r"\b(?:left|right)(?:\s+(?:and|or|to)\s+|[-/])$", re.IGNORECASE)

_PREPOSITION = r"\b(?:at|from|in|into|off|on|onto|to|towards?)\s+"
_OWNER = r"(?:the|its|his|her|their|our|my|your)\s+"
_PLACE = r"(?:bottom|center|centre|extreme|far|lower|middle|top|upper)[\s-]+"
_AFTER_OWNER = re.compile(rf"(?:{_PREPOSITION}{_OWNER}(?:{_PLACE})?|\b{_PLACE})$", re.IGNORECASE)
_AFTER_TURN = re.compile(
    r"(?:\b(?:at|from|on|to|towards?)\s+|\b"
    + _one_of(
        "bend(?:s|ing)? bent curv(?:es|ed|ing) fac(?:es?|ed|ing) gaz(?:es?|ed|ing) glanc(?:es?|ed|ing) "
        "head(?:s|ed|ing) lean(?:s|ed|ing)? looking mov(?:es?|ed|ing) point(?:s|ed|ing)? tilt(?:s|ed|ing)? "
        "turn(?:s|ed|ing)? veer(?:s|ed|ing)?"
    )
    + r"[\s-]+)$",
    re.IGNORECASE,
)
# After "on the right" few words change the sense; after "looks right" most do ("looks right at the camera").
_ENDS_OR = r"\s*(?:$|[.,;:!?)]|\b(?:and|as|of(?!\s+way\b)|or|while|with)\b"
_SHORT_NEXT = re.compile(_ENDS_OR + ")", re.IGNORECASE)
_LONG_NEXT = re.compile(
    _ENDS_OR
    + r"|\b"
    + _one_of(
        "are at by carries carrying eating facing from going has have holding holds in inside is jumping "
        "leaning looking looks lying near next on playing pointing riding running sits sitting smiling "
        "standing stands talking that throwing walking was watching wearing wears were which who"
    )
    + r"\b)",
    re.IGNORECASE,
)


def survives_mirror(caption: str) -> bool:
    """Whether a caption can be made true of the mirrored picture by swapping left and right, or is true as it is."""
    if _WRITING.search(caption) or _CAPITALS.search(caption) or _OTHER_SIDES.search(caption):
        return False
    return all(_is_plain(caption, found) for found in _SIDE.finditer(caption))


def mirrored_caption(caption: str) -> str:
    """The caption with each left and right swapped, as whole words; for one that `survives_mirror`."""
    return _SIDE.sub(lambda found: _other_side(found[1]) + (found[2] or ""), caption)


def _is_plain(caption: str, side: re.Match[str]) -> bool:
    """Whether this left or right means a side without doubt."""
    before, end = caption[max(0, side.start() - _SEEN_BEFORE) : side.start()], side.end()
    if side[2] or (before.endswith("(") and caption.startswith(")", end)):
        return True
    if _PARTS.match(caption, end):
        return not _AFTER_VERB.search(before)
    if _OTHER_OF_PAIR_AFTER.match(caption, end) or _OTHER_OF_PAIR_BEFORE.search(before):
        return True
    if _AFTER_OWNER.search(before):
        return _LONG_NEXT.match(caption, end) is not None
    return _AFTER_TURN.search(before) is not None and _SHORT_NEXT.match(caption, end) is not None


def _other_side(word: str) -> str:
    other = "right" if word.lower() == "left" else "left"
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
