import pickle
from pathlib import Path

import pytest

from systems.pixel_llm.data.picture_path import PackedPicture
from systems.pixel_llm.data.sample_table import Sample, SampleTable

SAMPLES = [
    Sample(Path("data/one.jpg"), ("a cat",)),
    Sample(Path("data/zwei ü 🙂.png"), ("eine Katze", "ein Tier 🐈")),
    Sample(PackedPicture("shard.tar", 512, 90, "shard.tar/three.webp"), ("a dog", "a brown dog", "it runs")),
]


def test_a_table_gives_back_what_it_was_made_of():
    table = SampleTable.of(SAMPLES)
    assert list(table) == SAMPLES
    assert table == SAMPLES
    assert table[-1] == SAMPLES[2]
    assert list(table.captions) == [caption for sample in SAMPLES for caption in sample.captions]
    assert list(table.names) == ["data/one.jpg", "data/zwei ü 🙂.png", "shard.tar/three.webp"]
    assert SampleTable.of(table) is table


def test_select_takes_rows_in_any_order_and_more_than_once():
    table = SampleTable.of(SAMPLES)
    assert list(table.select([2, 0, 2])) == [SAMPLES[2], SAMPLES[0], SAMPLES[2]]
    assert table[1:] == SAMPLES[1:]
    assert list(table.select([])) == []


@pytest.mark.parametrize(
    ("count", "rows"), [(1, [0]), (3, [0, 3, 6]), (4, [0, 2, 5, 7]), (10, range(10)), (99, range(10))]
)
def test_some_are_taken_evenly_spaced(count, rows):
    table = SampleTable.of(Sample(Path(f"{row}.png"), (f"caption {row}",)) for row in range(10))
    assert table.evenly_spaced(count) == [table[row] for row in rows]


def test_long_stretches_and_single_rows_are_selected_alike():
    samples = [Sample(Path(f"{row}.jpg"), tuple(f"{row} {place}" for place in range(1 + row % 3))) for row in range(50)]
    table = SampleTable.of(samples)
    for rows in ([*range(10, 30), 3, *range(40, 50), 0, 0], [49, 48], list(range(50)), [0]):
        assert list(table.select(rows)) == [samples[row] for row in rows]


def test_tables_are_joined_in_order_those_of_files_and_those_of_shards():
    other = [Sample(PackedPicture("other.tar", 1024, 10, "other.tar/four.png"), ("a bird",))]
    parts = [SAMPLES[:2], other, [], SAMPLES, SAMPLES[:1]]
    joined = SampleTable.joined(list(map(SampleTable.of, parts)))
    assert list(joined) == [sample for part in parts for sample in part]
    assert joined.select([2, 5]) == [*other, SAMPLES[2]]
    files = SampleTable.joined([SampleTable.of(SAMPLES[:1]), SampleTable.of(SAMPLES[1:2])])
    assert list(files) == SAMPLES[:2]
    assert files.captions[-1] == "ein Tier 🐈"


def test_there_is_no_sample_beyond_the_end():
    with pytest.raises(IndexError, match="There are 3; there is none at 3"):
        SampleTable.of(SAMPLES)[3]


def test_a_name_of_bytes_that_are_no_text_comes_back_as_it_was():
    path = Path(b"data/\xff\xfe.jpg".decode("utf-8", "surrogateescape"))
    assert SampleTable.of([Sample(path, ("a cat",))])[0].image_path == path


def test_a_million_would_cost_less_than_two_hundred_bytes_each():
    count = 2_000
    table = SampleTable.of_columns(
        [f"my_pictures/part_{number % 7}/picture_{number:07}.jpg" for number in range(count)], [("a cat",)] * count
    )
    assert table.nbytes_of_index < 100 * count
    # What a worker process that is started anew is sent is no larger either.
    assert len(pickle.dumps(table)) < 110 * count
