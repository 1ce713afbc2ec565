"""The tokenizer: exact round trips, special ids that no text can reach, and the shift by one of `encode_batch`."""

import json
import multiprocessing
import os
import string
import sys
import unicodedata
import warnings

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.tokenizer import IGNORE_INDEX, MIN_VOCAB_SIZE, TOKENIZER_FILE, CaptionTokenizer

CAPTIONS = [
    "a red square on a white background",
    "a blue circle on a white background",
    "a green triangle on a grey background",
    "ein grünes Dreieck, ein blauer Kreis",
    "ein grünes Viereck, ein blauer Kreis",
    "<eos> a <pad> of <bos> paper <eos>",
    "<eos> a <pad> of <bos> paper <eos>",
    "猫が好き 猫が好き 🦊🦊 🦊🦊",
] * 3

FITTED = CaptionTokenizer.train(CAPTIONS, vocab_size=400)
UNFITTED = CaptionTokenizer.bytes()

# Any text that a file can hold (no surrogates), in the normal form that the tokenizer keeps.
nfc_texts = st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: unicodedata.normalize("NFC", text))


# --- round trip -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", [UNFITTED, FITTED], ids=["unfitted", "fitted"])
@given(text=nfc_texts)
@example(text="")
@example(text="<eos><pad><bos> <eos>")
@example(text="  two  spaces\t\n\r\n at the ends  ")
@example(text="\ufeffa mark of byte order")
@example(text="zero \x00 byte")
@example(text="\U0010ffff \ufffd")
@example(text="é 각 ﬁ Å 👩‍👩‍👧‍👦")
def test_nfc_text_survives_exactly(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("tokenizer", [UNFITTED, FITTED], ids=["unfitted", "fitted"])
def test_every_assigned_character_survives(tokenizer):
    characters = [
        chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")
    ]
    text = "".join(character for character in characters if unicodedata.is_normalized("NFC", character))
    for start in range(0, len(text), 5000):
        piece = unicodedata.normalize("NFC", text[start : start + 5000])
        assert tokenizer.decode(tokenizer.encode(piece)) == piece


def test_an_accent_typed_in_two_ways_is_one_word():
    assert FITTED.encode("gru\u0308n") == FITTED.encode("grün")
    assert FITTED.decode(FITTED.encode("gru\u0308n")) == "grün"


@given(text=st.text(st.characters(), max_size=12))
@example(text="\ud800")
@example(text="a\udfffb\ud800c")
def test_a_lone_surrogate_becomes_a_replacement_character(text):
    shown = FITTED.decode(FITTED.encode(text))
    assert not any(0xD800 <= ord(character) <= 0xDFFF for character in shown)
    if text == "a\udfffb\ud800c":
        assert shown == "a\ufffdb\ufffdc"


def test_training_on_a_lone_surrogate_works():
    tokenizer = CaptionTokenizer.train(["bad \ud800 text", "bad \ud800 text"], vocab_size=300)
    assert tokenizer.decode(tokenizer.encode("bad text")) == "bad text"


# --- ids --------------------------------------------------------------------------------------------------------------


def test_the_special_ids_are_0_1_2():
    assert (CaptionTokenizer.pad_id, CaptionTokenizer.bos_id, CaptionTokenizer.eos_id) == (0, 1, 2)


@given(text=nfc_texts | st.text("<>/padbose ", max_size=30))
@example(text="<eos>")
@example(text="<pad> <bos><eos>")
def test_no_text_encodes_to_a_special_id(text):
    for tokenizer in (UNFITTED, FITTED):
        assert all(index > 2 for index in tokenizer.encode(text))
        assert all(index < tokenizer.vocab_size for index in tokenizer.encode(text))


def test_unfitted_is_one_token_a_byte():
    text = "grün 🦊"
    assert len(UNFITTED.encode(text)) == len(text.encode())
    assert UNFITTED.vocab_size == MIN_VOCAB_SIZE == 259
    assert not UNFITTED.is_fitted


def test_bytes_keep_their_ids_after_training():
    # What each byte's id says: in both tokenizers the same, so that a model's first rows keep their meaning.
    for index in range(3, MIN_VOCAB_SIZE):
        assert FITTED._spellings[index] == UNFITTED._spellings[index]
    for character in string.printable:
        assert FITTED.encode(character) == UNFITTED.encode(character)


def test_training_makes_captions_shorter():
    assert FITTED.is_fitted
    assert sum(FITTED.count_tokens(CAPTIONS)) < sum(UNFITTED.count_tokens(CAPTIONS)) / 2
    assert FITTED.count_tokens(["", "a"]) == [0, 1]


@pytest.mark.parametrize("vocab_size", [259, 260, 300, 10_000])
def test_vocab_size_is_a_ceiling(vocab_size):
    tokenizer = CaptionTokenizer.train(CAPTIONS, vocab_size=vocab_size)
    assert tokenizer.vocab_size <= vocab_size
    if vocab_size <= 300:
        assert tokenizer.vocab_size == vocab_size
    assert tokenizer.is_fitted == (vocab_size > 259)


@pytest.mark.parametrize("vocab_size", [258, 3, 0, -1])
def test_a_ceiling_below_the_bytes_is_refused(vocab_size):
    with pytest.raises(ConfigError, match=f"at least 259.*not {vocab_size}"):
        CaptionTokenizer.train(CAPTIONS, vocab_size=vocab_size)


def test_training_is_deterministic():
    again = CaptionTokenizer.train(iter(CAPTIONS), vocab_size=400)
    assert again._tokenizer.to_str() == FITTED._tokenizer.to_str()


def test_training_on_nothing_gives_bytes():
    assert not CaptionTokenizer.train([], vocab_size=400).is_fitted
    assert not CaptionTokenizer.train(["", ""], vocab_size=400).is_fitted


# --- decode -----------------------------------------------------------------------------------------------------------


def test_decode_stops_at_the_first_eos_and_passes_over_what_spells_nothing():
    ids = FITTED.encode("red square")
    assert FITTED.decode([1, *ids, 0, 0]) == "red square"
    assert FITTED.decode([*ids, 2, *ids]) == "red square"
    assert FITTED.decode([*ids, FITTED.vocab_size, FITTED.vocab_size + 60]) == "red square"
    assert FITTED.decode([]) == ""


def test_decode_passes_over_the_padding_of_targets():
    ids = FITTED.encode("red square")
    assert FITTED.decode([IGNORE_INDEX, *ids, IGNORE_INDEX, IGNORE_INDEX]) == "red square"


def test_bytes_that_are_no_utf8_become_replacement_characters():
    assert FITTED.decode(FITTED.encode("🦊")[:-1] or UNFITTED.encode("🦊")[:-1]) in ("", "\ufffd")
    assert UNFITTED.decode(UNFITTED.encode("🦊")[:-1]) == "\ufffd"


# --- encode_batch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", [UNFITTED, FITTED], ids=["unfitted", "fitted"])
def test_targets_are_the_next_tokens(tokenizer):
    captions = ["a red square", "", "🦊", "a blue circle on a white background", "<eos> is text"]
    batch = tokenizer.encode_batch(captions, max_seq_len=128)
    length = max(len(tokenizer.encode(caption)) + 1 for caption in captions)
    assert batch.input_ids.shape == batch.targets.shape == (len(captions), length)
    assert batch.input_ids.dtype == batch.targets.dtype == torch.int64
    assert batch.num_truncated == 0
    supervised = []
    for row, caption in enumerate(captions):
        words = tokenizer.encode(caption)
        read, said = [1, *words], [*words, 2]
        for column in range(length):
            if column < len(said):
                assert batch.input_ids[row, column] == read[column]
                assert batch.targets[row, column] == said[column]
                supervised.append(row * length + column)
            else:
                assert batch.input_ids[row, column] == 0
                assert batch.targets[row, column] == IGNORE_INDEX
    assert batch.supervised.tolist() == supervised


@given(captions=st.lists(nfc_texts, max_size=4), max_seq_len=st.integers(1, 12))
def test_every_row_ends_in_eos_and_fits(captions, max_seq_len):
    for tokenizer in (UNFITTED, FITTED):
        batch = tokenizer.encode_batch(captions, max_seq_len=max_seq_len)
        assert batch.targets.shape == batch.input_ids.shape
        assert len(batch.targets) == len(captions)
        assert batch.targets.shape[1] <= max_seq_len
        num_cut = 0
        for caption, targets, input_ids in zip(captions, batch.targets.tolist(), batch.input_ids.tolist(), strict=True):
            said = targets[: targets.index(2) + 1]
            assert 2 not in said[:-1]
            assert set(targets[len(said) :]) <= {IGNORE_INDEX}
            assert input_ids[: len(said)] == [1, *said[:-1]]
            # A cut caption is the whole one's beginning, and no character of it is torn.
            assert caption.startswith(tokenizer.decode(said))
            num_cut += tokenizer.decode(said) != caption
        assert batch.num_truncated == num_cut


def test_a_long_caption_is_cut_with_its_end_mark_kept():
    captions = ["abcdef", "abc", "abcd"]
    batch = UNFITTED.encode_batch(captions, max_seq_len=5)
    assert batch.input_ids.shape == (3, 5)
    assert [UNFITTED.decode(row) for row in batch.targets.tolist()] == ["abcd", "abc", "abcd"]
    assert batch.targets[0, -1] == 2
    assert batch.num_truncated == 1  # the third one fits exactly


@pytest.mark.parametrize("max_seq_len", range(2, 12))
def test_the_cut_tears_no_character(max_seq_len):
    batch = UNFITTED.encode_batch(["a🦊é猫"], max_seq_len=max_seq_len)
    said = UNFITTED.decode(batch.targets[0].tolist())
    assert said in ("a", "a🦊", "a🦊é", "a🦊é猫")
    assert len(said.encode()) < max_seq_len
    assert batch.num_truncated == (said != "a🦊é猫")


def test_the_batch_is_as_long_as_its_longest_caption():
    batch = UNFITTED.encode_batch(["abcde", "a"], max_seq_len=10)
    assert batch.input_ids.shape == (2, 6)
    assert batch.supervised.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_batch_moves_as_a_whole():
    moved = UNFITTED.encode_batch(["abc"], max_seq_len=3).to("meta")
    assert {moved.input_ids.device.type, moved.targets.device.type, moved.supervised.device.type} == {"meta"}
    assert moved.num_truncated == 1


# --- disk -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", [UNFITTED, FITTED], ids=["unfitted", "fitted"])
def test_a_saved_tokenizer_is_the_same(tmp_path, tokenizer):
    tokenizer.save(tmp_path)
    loaded = CaptionTokenizer.load(tmp_path)
    assert loaded.vocab_size == tokenizer.vocab_size
    for text in [*CAPTIONS, "something never seen 🐙", "<eos><pad>"]:
        assert loaded.encode(text) == tokenizer.encode(text)
        assert loaded.decode(loaded.encode(text)) == text
    assert loaded._tokenizer.to_str() == tokenizer._tokenizer.to_str()


def _changed(**changes):
    """The text of a good tokenizer file with fields of its model replaced."""
    content = json.loads(FITTED._tokenizer.to_str())
    content["model"] |= changes
    return json.dumps(content)


def _vocabulary(**changes):
    return json.loads(FITTED._tokenizer.to_str())["model"]["vocab"] | changes


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "[]",
        "null",
        "{}",
        '{"model": []}',
        "[" * 100_000,
        "\ufeff{}",
        _changed(vocab=[]),
        _changed(vocab={}),
        _changed(vocab={"<pad>": 0, "<bos>": 1, "<eos>": 2}),
        _changed(vocab=_vocabulary(extra=10**6)),
        _changed(vocab=_vocabulary(extra=-1)),
        _changed(vocab=_vocabulary(extra="2")),
        _changed(vocab=_vocabulary() | {"<eos>": 1, "<bos>": 2}),
        # A character that stands for no byte.
        _changed(vocab=_vocabulary() | {"猫": FITTED.vocab_size}),
        _changed(merges=None),
        _changed(merges=["a b"]),
        _changed(merges=[["a"]]),
        _changed(merges=[["a", "b", "c"]]),
        _changed(merges=[["not", "there"]]),
        _changed(merges=[[1, 2]]),
    ],
    ids=range(22),
)
def test_a_broken_file_is_a_clear_error(tmp_path, content):
    (tmp_path / TOKENIZER_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=TOKENIZER_FILE):
        CaptionTokenizer.load(tmp_path)


def test_a_file_of_raw_bytes_is_a_clear_error(tmp_path):
    (tmp_path / TOKENIZER_FILE).write_bytes(bytes(range(256)))
    with pytest.raises(CheckpointError, match=TOKENIZER_FILE):
        CaptionTokenizer.load(tmp_path)


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(CheckpointError, match=TOKENIZER_FILE):
        CaptionTokenizer.load(tmp_path)


def test_a_file_of_absurd_size_is_not_read(tmp_path):
    with (tmp_path / TOKENIZER_FILE).open("wb") as file:
        file.truncate(300 * 2**20)  # sparse: takes no disk
    with pytest.raises(CheckpointError, match="larger than any tokenizer"):
        CaptionTokenizer.load(tmp_path)


def test_a_file_that_makes_text_reach_special_ids_cannot(tmp_path):
    """Whatever else a file says (added tokens, another normalizer), only its table of merges is taken."""
    content = json.loads(FITTED._tokenizer.to_str())
    content["added_tokens"] = [
        {
            "id": 2,
            "content": "red",
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
    ]
    content["normalizer"] = {"type": "Lowercase"}
    (tmp_path / TOKENIZER_FILE).write_text(json.dumps(content), encoding="utf-8")
    loaded = CaptionTokenizer.load(tmp_path)
    assert loaded.encode("A red fox") == FITTED.encode("A red fox")


# --- processes --------------------------------------------------------------------------------------------------------


def _encode_in_child(queue):
    queue.put(FITTED.encode("a red square"))


def test_training_leaves_the_environment_alone_and_forking_is_quiet(monkeypatch, capfd):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    CaptionTokenizer.train(CAPTIONS, vocab_size=300)
    assert "TOKENIZERS_PARALLELISM" not in os.environ
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which torch may have
        child = context.Process(target=_encode_in_child, args=(queue,))
        child.start()
    assert queue.get() == FITTED.encode("a red square")
    child.join()
    assert child.exitcode == 0
    assert "TOKENIZERS_PARALLELISM" not in capfd.readouterr().err


def test_a_choice_of_the_user_is_kept(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    CaptionTokenizer.train(CAPTIONS, vocab_size=300)
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


def test_the_environment_is_restored_after_a_failure(monkeypatch):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    with pytest.raises(AttributeError):
        CaptionTokenizer.train(["a", None], vocab_size=300)
    assert "TOKENIZERS_PARALLELISM" not in os.environ
