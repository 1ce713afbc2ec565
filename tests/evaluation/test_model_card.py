"""The card tells what is known and says what is not; nothing that data holds breaks its header, tables or lists."""

import json
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.evaluation.card_scores import CardScores, Example, Row, ScoreLine
from systems.pixel_llm.evaluation.data_record import DataRecord
from systems.pixel_llm.evaluation.markdown import one_line
from systems.pixel_llm.evaluation.model_card import CardModel, check_language, check_license, model_card
from systems.pixel_llm.evaluation.run_facts import Progress, RunFacts
from systems.pixel_llm.models.config import PixelLLMConfig

HOSTILE = '---\nlicense: evil\n---\n# | <script>alert("x")</script> `|` \\| “ \' ``` [x](y) 漢字'


def make_model(**changes):
    model = CardModel(
        name="holiday", config=PixelLLMConfig(image_size=(64, 96)), num_tokens=1397, num_parameters=3_076_440,
        dtype="fp32", num_bytes=12_345_678, sha256="ab" * 32,
    )  # fmt: skip
    return replace(model, **changes)


def make_scores(tmp_path, **changes):
    scores = CardScores(
        folder=tmp_path, checkpoint="step_7", data=("photos",), split="val", num_pictures=200,
        date="2026-11-24T15:48:41+00:00", generation={"num_beams": 5, "top_k": None, "prefix": ""},
        scores=(
            ScoreLine(key="bleu_4", value=0.25, interval=(0.2, 0.3), signature="n:4|refs:5"),
            ScoreLine(key="cider_d", value=0.61234, interval=(0.5, 0.7), signature="n:4|sigma:6"),
        ),
        rows=(
            Row(key="constant", values={"bleu_4": 0.1, "cider_d": 0.2}, caption="a dog runs"),
            Row(key="nearest", values={"cider_d": 0.55}, caption=None),
            Row(key="human", values={"cider_d": 0.9}, caption=None),
        ),
        not_computed={"meteor": "no word net is there"}, copied_share=0.125, distinct_captions=0.3,
        caveats=("One reference a picture.",),
    )  # fmt: skip
    return replace(scores, **changes)


def make_facts(scores=(), **changes):
    facts = RunFacts(
        checkpoint="step_7",
        progress=Progress(epoch=3, step=1234, minutes=9.87, validation_loss=2.5),
        data=DataRecord(
            folders=("photos", "drawings"), num_train_pictures=2352, num_train_captions=11_760,
            num_validation_pictures=222, num_validation_captions=1110, is_held_back=True, is_divided_by_looks=True,
        ),
        settings={"learning_rate": 0.001, "weights": [1.0, 0.25], "seed": 0},
        started_from=None,
        scores=tuple(scores),
        scores_are_of=None,
        examples=(Example(image="a.jpg", caption="a dog", references=("a black dog", "dog"), kind="a good one"),),
    )  # fmt: skip
    return replace(facts, **changes)


def header_of(card):
    yaml = pytest.importorskip("yaml")
    start, header, text = card.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(header), text


def tables_of(card):
    """The cells of each table, row by row, as they are shown."""
    tables, cells = [], None
    for token in MarkdownIt("commonmark").enable("table").parse(card.split("---\n", 2)[2]):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            cells = []
            tables[-1].append(cells)
        elif token.type == "tr_close":
            cells = None
        elif token.type == "inline" and cells is not None:
            cells.append("".join(child.content for child in token.children))
    return tables


def test_the_header_is_what_model_hubs_read(tmp_path):
    card = model_card(make_model(), make_facts([make_scores(tmp_path)]), license_name="apache-2.0", language="en")
    header, text = header_of(card)
    assert header == {
        "license": "apache-2.0",
        "language": ["en"],
        "library_name": "pixel-llm",
        "pipeline_tag": "image-to-text",
        "tags": ["image-captioning", "image-to-text", "pixel-llm"],
        "model-index": [
            {
                "name": "holiday",
                "results": [
                    {
                        "task": {"type": "image-to-text", "name": "Image captioning"},
                        "dataset": {"type": "photos", "name": "photos", "split": "val"},
                        "metrics": [
                            {"type": "bleu", "value": 0.25, "name": "BLEU-4"},
                            {"type": "cider", "value": 0.6123, "name": "CIDEr-D"},
                        ],
                    }
                ],
            }
        ],
    }
    assert "Licence: apache-2.0" in text
    assert "their language (`en`)" in text


def test_a_model_hub_s_own_reader_takes_it(tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(model_card(make_model(), make_facts([make_scores(tmp_path)]), license_name="mit"))
    assert (card.data.license, card.data.model_name, card.data.library_name) == ("mit", "holiday", "pixel-llm")
    found = [(each.dataset_name, each.metric_type, each.metric_value) for each in card.data.eval_results]
    assert found == [("photos", "bleu", 0.25), ("photos", "cider", 0.6123)]


def test_what_is_not_known_is_not_in_the_header():
    header, text = header_of(model_card(make_model(), make_facts()))
    assert header.keys() == {"library_name", "pipeline_tag", "tags"}
    assert "No licence is given" in text


def test_scores_stand_beside_their_intervals_and_what_they_are_compared_with(tmp_path):
    card = model_card(make_model(), make_facts([make_scores(tmp_path)]))
    assert [
        ["Score", "This model", "95 % interval", "one caption for all",
         "the caption of the most similar training picture", "people"],
        ["BLEU-4", "0.2500", "0.2000 to 0.3000", "0.1000", "", ""],
        ["CIDEr-D", "0.6123", "0.5000 to 0.7000", "0.2000", "0.5500", "0.9000"],
    ] in tables_of(card)  # fmt: skip
    assert "Measured on 200 pictures of “photos” (val, 2026-11-24)." in card
    assert "- CIDEr-D: `n:4|sigma:6`" in card
    assert "The one caption for all is “a dog runs”." in card
    assert "not surely better than the caption of the most similar training picture.**" in card
    assert "better than one caption" not in card
    assert "Not computed: meteor, since no word net is there." in card
    assert "Captions were made with `num_beams=5`." in card
    assert "12.5%" not in card
    assert "12% of its captions on the scored pictures are training captions" in card
    assert "only 30% of its captions" in card
    assert "One reference a picture." in card


def test_a_model_that_loses_is_told_to(tmp_path):
    lost = make_scores(tmp_path, rows=(Row(key="nearest", values={"cider_d": 0.71}, caption=None),))
    card = model_card(make_model(), make_facts([lost]))
    assert "**By CIDEr-D this model is worse than the caption of the most similar training picture.**" in card


def test_each_data_has_its_own_scores(tmp_path):
    both = [make_scores(tmp_path), make_scores(tmp_path, data=("other", "third"), split=None)]
    card = model_card(make_model(), make_facts(both))
    assert "### On “photos”\n" in card
    assert "### On “other”, “third”\n" in card
    header, _ = header_of(card)
    datasets = [result["dataset"] for result in header["model-index"][0]["results"]]
    assert datasets[1] == {"type": "other-third", "name": "other, third"}


def test_a_run_that_was_not_evaluated_says_so_and_how_to():
    card = model_card(make_model(), make_facts(scores_are_of="step_9"))
    assert "It was not evaluated: the run has scores of its checkpoint “step_9” only." in card
    assert "pixel-llm evaluate holiday PICTURES" in card
    assert "model-index" not in card


def test_a_checkpoint_alone_has_a_card_too():
    card = model_card(make_model(), make_facts(progress=None, data=None, settings=None, examples=()))
    assert "There is no record of the data beside the checkpoint." in card
    assert "Training:" not in card
    assert "It says only what its training captions say" in card


def test_numbers_of_the_data_and_the_training_are_told():
    card = model_card(make_model(), make_facts(started_from="first"))
    assert "Data folders: “photos”, “drawings”." in card
    assert "2,352 pictures with 11,760 captions to train on, 222 pictures with 1,110 captions to validate on" in card
    assert "1,234 steps in 9.9 minutes, 3 whole passes" in card
    assert "starting from the weights of “first”." in card
    assert "96 × 64 pixels" in card
    assert ["learning_rate", "0.001"] in tables_of(card)[1]
    assert ["weights", "1, 0.25"] in tables_of(card)[1]


@pytest.mark.parametrize(("dtype", "is_told"), [("fp32", False), ("bf16", True), ("fp16", True)])
def test_rounded_weights_are_told(tmp_path, dtype, is_told):
    card = model_card(make_model(dtype=dtype), make_facts([make_scores(tmp_path)]))
    assert (f"The weights are stored as {dtype}" in card) is is_told
    assert (f"before they were rounded to {dtype}" in card) is is_told


def test_limits_follow_from_the_data():
    facts = make_facts()
    many = replace(facts.data, num_train_pictures=10_000, is_divided_by_looks=False)
    few_card, many_card = model_card(make_model(), facts), model_card(make_model(), replace(facts, data=many))
    assert "are few to learn from" in few_card
    assert "are few to learn from" not in many_card
    assert "were kept together" in few_card
    assert "were not searched for pictures that look the same" in many_card


def test_nothing_that_data_holds_breaks_the_card(tmp_path):
    plain = make_facts([make_scores(tmp_path)])
    hostile_scores = make_scores(
        tmp_path, data=(HOSTILE,), split=HOSTILE, caveats=(HOSTILE,), not_computed={HOSTILE: HOSTILE},
        generation={"prefix": HOSTILE}, rows=(Row(key="constant", values={"cider_d": 0.1}, caption=HOSTILE),),
        scores=(ScoreLine(key="cider_d", value=0.5, interval=None, signature=HOSTILE),),
    )  # fmt: skip
    hostile = make_facts(
        [hostile_scores],
        data=replace(plain.data, folders=(HOSTILE,)),
        settings={"preset": HOSTILE},
        started_from=HOSTILE,
        examples=(Example(image=HOSTILE, caption=HOSTILE, references=(HOSTILE,), kind="a bad one"),),
    )
    card = model_card(make_model(name=HOSTILE), hostile)
    header, text = header_of(card)
    assert "license" not in header
    assert header["model-index"][0]["name"] == one_line(HOSTILE)
    assert header["model-index"][0]["results"][0]["dataset"]["name"] == one_line(HOSTILE)
    example = tables_of(card)[0][1]
    assert example == [one_line(HOSTILE), "a bad one", one_line(HOSTILE), one_line(HOSTILE)]
    assert ["preset", one_line(HOSTILE)] in tables_of(card)[1]
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    headings = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings[1:] == [
        "How to use it", "What it was trained on", "How good it is", "Limits", "Version and licence"
    ]  # fmt: skip
    allowed = ("<details>\n<summary>All settings</summary>\n", "</details>\n")
    assert all(token.content in allowed for token in tokens if token.type == "html_block")
    inline = [child.type for token in tokens for child in token.children or ()]
    assert not {"html_inline", "link_open", "image"} & set(inline)
    assert next(token.content for token in tokens if token.type == "fence") == "pixel-llm caption FOLDER photo.jpg\n"


def test_the_card_is_tidy(tmp_path):
    card = model_card(make_model(), make_facts([make_scores(tmp_path)]))
    assert "\n\n\n" not in card
    assert card.endswith(".\n")
    assert not [line for line in card.splitlines() if line != line.rstrip()]
    assert "None" not in card
    assert json.dumps("holiday") in card


@pytest.mark.parametrize("name", ["", "Apache 2.0", "mit\nx: y", "-x"])
def test_a_licence_is_an_identifier(name):
    check_license("cc-by-nc-sa-4.0")
    with pytest.raises(ConfigError, match=r"apache-2\.0"):
        check_license(name)


@pytest.mark.parametrize("name", ["", "English", "e", "en\n"])
def test_a_language_is_a_code(name):
    check_language("en")
    with pytest.raises(ConfigError, match="ISO 639"):
        check_language(name)
