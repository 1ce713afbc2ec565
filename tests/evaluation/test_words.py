"""Captions to words as the COCO evaluation has them: by examples, and line by line where the original is installed."""

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systems.pixel_llm.evaluation.words import PUNCTUATION, TOKENIZER, tokenize_caption, tokenize_captions

EXAMPLES = {
    "A man riding a wave on top of a surfboard.": "a man riding a wave on top of a surfboard",
    "  two\tdogs\nrun  ": "two dogs run",
    "": "",
    " .,;! ? ": "",
    "Red, white,and blue; big.": "red white and blue big",
    "He said \"hello there\" and 'hi'.": "he said hello there and hi",
    "The man's hat, the boys' hats": "the man 's hat the boys hats",
    "It doesn't, can't, cannot": "it does n't ca n't can not",
    "they're we've I'd I'll I'm": "they 're we 've i 'd i 'll i 'm",
    "gonna wanna 'tis y'all": "gon na wan na 't is y' all",
    "4 o'clock at O'Hare ma'am": "4 o'clock at o'hare ma'am",
    "rock 'n' roll of the '70s": "rock 'n' roll of the '70s",
    "black-and-white T-shirt - a dog -- cat old- ": "black-and-white t-shirt a dog cat old",
    "dogs... and cats…": "dogs and cats",
    "main st. at 5 p.m. in the U.S.": "main st. at 5 p.m. in the u.s.",
    "Mr. Smith etc. has a bat.": "mr. smith etc. has a bat",
    "no. 5 says no.": "no. 5 says no",
    "Wash. and a wash.": "wash. and a wash",
    "a frisbee.the dog": "a frisbee.the dog",
    "Person I. A hood on 12th Ave S.": "person i a hood on 12th ave s",
    "J. Smith": "j. smith",
    "(a dog) [cat] {bird}": "-lrb- a dog -rrb- -lsb- cat -rsb- -lcb- bird -rcb-",
    "1,000 of 1.5 at 10:30am or 3pm": "1,000 of 1.5 at 10:30 am or 3pm",
    "$5 5% #1 #hashtag @user": "$ 5 5 % # 1 #hashtag @user",
    "22 3/4 and/or w/ a/b": "22 3/4 and/or w / a/b",
    "M&Ms AT&T p&j &amp; &": "m&m s at&t p & j & &",
    "wow!! what?!": "wow !! what ?!",
    "a <unk> at http://www.a.com/b me@mail.com": "a <unk> at http://www.a.com/b me@mail.com",
    "“quoted” it’s a–b": "quoted it 's a b",
    "café naïve 日本": "café naïve 日本",
    "emoji 😀 ½ cup 20°C 5¢": "emoji 1/2 cup 20 ° c 5 cents",
    "$. A": "$ a",
}


@pytest.mark.parametrize(("caption", "words"), EXAMPLES.items())
def test_examples(caption, words):
    assert tokenize_caption(caption) == words.split()


def test_many_captions_at_once():
    assert tokenize_captions(["A dog.", "", "a Cat"]) == [["a", "dog"], [], ["a", "cat"]]


@given(st.text())
def test_words_are_small_without_spaces_and_without_dropped_marks(caption):
    words = tokenize_caption(caption)
    assert all(word and word == word.lower() and not any(map(str.isspace, word)) for word in words)
    assert not PUNCTUATION.intersection(words)


@given(st.lists(st.sampled_from(["a", "dog", "cat's", "black-and-white", "runs", "n't", "5"])))
def test_clean_words_stay_as_they_are(pieces):
    words = tokenize_caption(" ".join(pieces))
    assert tokenize_caption(" ".join(words)) == words


@pytest.mark.parametrize("piece", ["a", "a-", "a.", "'", "n't", "o'", "<", "a/", "1.", "x@", "a+", "1:"])
def test_long_pieces_of_one_kind_end(piece):
    assert isinstance(tokenize_caption(piece * 20_000), list)


def test_the_version_is_named():
    assert TOKENIZER == "ptb.1"


def test_equal_to_the_published_tokenizer_line_by_line(shared_data, tmp_path):
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or shutil.which("java") is None:
        pytest.skip("pycocoevalcap and java are not both installed")
    content = json.loads((shared_data / "coco_val2017_captions" / "captions_val2017.json").read_text(encoding="utf-8"))
    captions = [each["caption"].replace("\n", " ") for each in content["annotations"]]
    (jar,) = Path(spec.submodule_search_locations[0]).glob("tokenizer/stanford-corenlp-*.jar")
    listed = tmp_path / "captions.txt"
    listed.write_text("\n".join(captions), encoding="utf-8")
    command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    ended = subprocess.run([*command, str(listed)], capture_output=True, check=True)
    lines = ended.stdout.decode("utf-8").removesuffix("\n").split("\n")
    assert len(lines) == len(captions) == 25_014
    theirs = [[word for word in line.split() if word not in PUNCTUATION] for line in lines]
    equal = sum(one == other for one, other in zip(tokenize_captions(captions), theirs, strict=True))
    assert equal / len(captions) >= 0.999  # all of them, with pycocoevalcap 1.2
