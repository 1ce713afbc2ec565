"""The published scores of published captions, to four decimals: COCO's demo, CLIPScore's and nlg-eval's examples."""

import json

import pytest

from systems.pixel_llm.evaluation.bleu import bleu_statistics
from systems.pixel_llm.evaluation.cider import cider
from systems.pixel_llm.evaluation.ngrams import count_ngrams
from systems.pixel_llm.evaluation.rouge import rouge_l
from systems.pixel_llm.evaluation.score import score_captions
from systems.pixel_llm.evaluation.words import tokenize_captions


@pytest.fixture(scope="module")
def metric_reference(shared_data):
    folder = shared_data / "metric_reference"
    if not folder.is_dir():
        pytest.skip("../shared/data/metric_reference is not beside this repository")
    return folder


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_demo_of_the_coco_evaluation(metric_reference):
    folder = metric_reference / "coco_val2014_fakecap"
    expected, captions = read_json(folder / "expected.json"), read_json(folder / "res_tokenized.json")
    references = read_json(folder / "gts_tokenized.json")
    said = [each.split() for (each,) in captions.values()]
    wanted = [[each.split() for each in references[name]] for name in captions]
    counts = count_ngrams(said, wanted)
    assert (counts.num_pictures, len(counts.reference_length)) == (1000, 5005)

    bleu, published = bleu_statistics(counts), expected["bleu_stats"]
    assert bleu.matches.sum(axis=0).tolist() == published["correct"]
    assert bleu.totals.sum(axis=0).tolist() == published["guess"]
    assert bleu.caption_length.sum() == published["testlen"]
    assert bleu.reference_length.sum() == published["reflen"]
    found = [*bleu.corpus(), rouge_l(said, wanted).mean(), cider(counts).mean()]
    names = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")
    assert found == pytest.approx([expected[name] for name in names], abs=1e-10)
    assert [round(value, 6) for value in found[4:]] == [0.396253, 0.599791]


def test_its_captions_are_cut_into_the_same_words(metric_reference):
    folder = metric_reference / "coco_val2014_fakecap"
    raw = read_json(folder / "captions_val2014_fakecap_results.json")
    tokenized = read_json(folder / "res_tokenized.json")
    found = tokenize_captions(each["caption"] for each in raw)
    assert found == [tokenized[str(each["image_id"])][0].split() for each in raw]


@pytest.mark.parametrize("kind", ["good_captions", "bad_captions"])
def test_the_example_of_clipscore(metric_reference, kind):
    folder = metric_reference / "clipscore_example"
    captions, references = read_json(folder / f"{kind}.json"), read_json(folder / "refs.json")
    expected = read_json(folder / "expected.json")[kind]
    found = score_captions(list(captions.values()), [references[name] for name in captions]).values
    names = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE", "CIDER")
    assert found == pytest.approx([expected[name] for name in names], abs=5.1e-5)


def test_the_example_of_nlg_eval(metric_reference):
    folder = metric_reference / "nlg_eval_example"
    lines = [(folder / name).read_text(encoding="utf-8").splitlines() for name in ("hyp.txt", "ref1.txt", "ref2.txt")]
    expected = read_json(folder / "expected.json")
    names = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")
    found = score_captions(lines[0], list(zip(*lines[1:], strict=True))).values
    assert found == pytest.approx([expected[name] for name in names], abs=1e-5)
    for each in expected["individual"]:  # scored as they are, split at spaces; digits of the small constants
        said, wanted = [each["hyp"].split()], [[text.split() for text in each["refs"]]]
        counts = count_ngrams(said, wanted)
        found = [*bleu_statistics(counts).corpus(), rouge_l(said, wanted).mean(), cider(counts).mean()]
        assert found == pytest.approx([each[name] for name in names], abs=1e-6)
