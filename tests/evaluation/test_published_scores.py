"""The published scores of published captions, to four decimals: COCO's demo, CLIPScore's and nlg-eval's examples."""

import importlib.util
import json
import shutil

import pytest

from systems.pixel_llm.evaluation.bleu import bleu_statistics
from systems.pixel_llm.evaluation.cider import cider
from systems.pixel_llm.evaluation.java_scores import meteor_statistics
from systems.pixel_llm.evaluation.meteor import meteor_of_sums
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


@pytest.fixture(scope="module")
def java():
    if importlib.util.find_spec("pycocoevalcap") is None or shutil.which("java") is None:
        pytest.skip("pycocoevalcap, the extra `meteor`, and java are not both installed")


@pytest.mark.slow
@pytest.mark.usefixtures("java")
def test_meteor_of_the_demo_of_the_coco_evaluation(metric_reference):
    folder = metric_reference / "coco_val2014_fakecap"
    captions, references = read_json(folder / "res_tokenized.json"), read_json(folder / "gts_tokenized.json")
    said = [each for (each,) in captions.values()]
    found = meteor_of_sums(meteor_statistics(said, [references[name] for name in captions]).sum(axis=0))
    assert found == pytest.approx(read_json(folder / "expected.json")["METEOR"], abs=1e-10)
    assert round(float(found), 6) == 0.195255


@pytest.mark.slow
@pytest.mark.usefixtures("java")
def test_meteor_of_the_examples_of_clipscore_and_nlg_eval(metric_reference):
    """In one go, since METEOR is slow to start."""
    folder = metric_reference / "clipscore_example"
    references, expected = read_json(folder / "refs.json"), read_json(folder / "expected.json")
    said, wanted, published = [], [], []
    for kind in ("good_captions", "bad_captions"):
        captions = read_json(folder / f"{kind}.json")
        said += captions.values()
        wanted += [references[name] for name in captions]
        published.append(expected[kind]["METEOR"])
    folder = metric_reference / "nlg_eval_example"
    lines = [(folder / name).read_text(encoding="utf-8").splitlines() for name in ("hyp.txt", "ref1.txt", "ref2.txt")]
    said += lines[0]
    wanted += list(zip(*lines[1:], strict=True))
    published.append(read_json(folder / "expected.json")["METEOR"])
    statistics = meteor_statistics(said, wanted)
    found = [float(meteor_of_sums(statistics[first : first + 2].sum(axis=0))) for first in (0, 2, 4)]
    assert found == pytest.approx(published, abs=5.1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("java")
def test_meteor_of_each_caption_is_that_of_pycocoevalcap(metric_reference):
    from pycocoevalcap.meteor.meteor import Meteor

    folder = metric_reference / "coco5k_no_scores"
    captions = {each["image_id"]: each["caption"] for each in read_json(folder / "captions_example.json")[:198]}
    references = {name: [] for name in captions}
    for each in read_json(folder / "references_example.json")["annotations"]:
        references.get(each["image_id"], []).append(each["caption"])
    said, wanted = list(captions.values()), list(references.values())
    said += ["", wanted[0][0]]  # says nothing; is one of its references
    wanted += [["a dog runs"], wanted[0]]
    assert (len(said), min(map(len, wanted[:198]))) == (200, 5)
    ours = meteor_statistics(said, wanted)
    words = [" ".join(each) for each in tokenize_captions(said)]
    of_references = [[" ".join(each) for each in tokenize_captions(texts)] for texts in wanted]
    program = Meteor()
    theirs, of_each = program.compute_score(
        dict(enumerate(of_references)), {index: [each] for index, each in enumerate(words)}
    )
    for pipe in (program.meteor_p.stdout, program.meteor_p.stderr):
        pipe.close()
    assert meteor_of_sums(ours) == pytest.approx(of_each, abs=1e-12)
    assert meteor_of_sums(ours.sum(axis=0)) == pytest.approx(theirs, abs=1e-12)
    assert of_each[-2:] == [0, 1]
