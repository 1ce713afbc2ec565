"""The page of a run: one file that asks for nothing else, whatever captions are, and whatever the run lacks."""

import base64
import hashlib
import re
import shutil
import subprocess
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
import torch

from systems.pixel_llm.evaluation.report import MAX_GALLERY, make_report, write_report
from systems.pixel_llm.evaluation.run_record import read_run
from systems.pixel_llm.models import create_pixel_llm
from tests.evaluation.made_run import COLOURS, make_run

HOSTILE = "<script>alert('caption')</script> \"><img src=x onerror=alert(1)> {{ 7 * 7 }} </pre><style>*{}</style>"
DATE = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Elements(HTMLParser):
    """The elements of a page that matter here."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.policies: list[str] = []
        self.text: list[str] = []
        self.inside: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "action", "srcset", "xlink:href")]
        self.handlers += [name for name, _ in attributes if name.startswith("on")]
        found = dict(attributes)
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policies.append(found["content"])
        self.inside = [tag]

    def handle_endtag(self, tag):
        self.inside = []

    def handle_data(self, data):
        if self.inside == ["script"]:
            self.scripts.append(data)
        elif self.inside != ["style"]:
            self.text.append(data)


def page_of(run) -> tuple[str, Elements, str]:
    """The page, its elements, and its text with white space as single spaces."""
    page = make_report(read_run(run), device=torch.device("cpu"), defaults=defaults, date=DATE)
    elements = Elements(page)
    return page, elements, " ".join("".join(elements.text).split())


def defaults(preset):
    assert preset in ("tiny", "None")
    return {"learning_rate": 0.001, "batch_size": 32}


def with_model(run):
    """`run` with a model in it, untrained."""
    torch.manual_seed(0)
    model = create_pixel_llm(image_size=32, patch_size=16, vision_embed_dim=32, vision_num_layers=1, text_num_layers=1)
    model.fit_tokenizer([f"a {colour} square" for colour in COLOURS])
    model.save_pretrained(run)
    return run


# --- safe -------------------------------------------------------------------------------------------------------------


def test_hostile_captions_and_names_are_text_and_nothing_else(tmp_path):
    run = with_model(make_run(tmp_path, caption=HOSTILE))
    named = tmp_path / "pictures" / "<b onclick=x>&.png"
    (tmp_path / "pictures" / "000.png").rename(named)
    for name in ("evaluation/captions.jsonl", "panel.jsonl"):
        text = (run / name).read_text(encoding="utf-8")
        (run / name).write_text(text.replace("000.png", named.name), encoding="utf-8")
    hostile_run = run.rename(tmp_path / "<u>run")
    _, elements, text = page_of(hostile_run)
    assert elements.tags.count("script") == 1
    assert elements.tags.count("style") == 1
    assert not {"u", "b onclick=x"} & set(elements.tags)
    assert elements.handlers == []
    assert "x" not in elements.links
    assert text.count(HOSTILE) >= 3  # among the examples, above its attention maps, in the gallery
    assert named.name in text
    assert "<u>run" in text


def test_nothing_is_asked_of_a_network(tmp_path):
    page, elements, _ = page_of(with_model(make_run(tmp_path)))
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in elements.links)
    assert sum(link.startswith("data:") for link in elements.links) > 20
    without_data = re.sub(r"data:image[^\"]+", "", page)
    for word in ("http:", "https:", "//www", "url(", "@import", "<link", "<iframe", "fetch(", "XMLHttp", "import("):
        assert word not in without_data, word
    targets = {link[1:] for link in elements.links if link.startswith("#")}
    assert targets <= set(re.findall(r'id="([^"]+)"', page))


def test_the_policy_allows_the_script_of_the_page_and_no_other(tmp_path):
    _, elements, _ = page_of(make_run(tmp_path))
    (policy,) = elements.policies
    (script,) = elements.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["img-src"] == "data:"


# --- whole ------------------------------------------------------------------------------------------------------------


def test_a_whole_run_shows_all_of_it(tmp_path):
    page, _, text = page_of(with_model(make_run(tmp_path)))
    for expected in (
        "Trained on 90 pictures of squares for 90 seconds: 3 epochs, 100 steps.",
        "Better than captions without a model",
        "on 8 validation pictures; always saying the same gets 0.000.", "The one caption for all is “nothing”.",
        "few pictures", "Loss, nats a token", "CIDEr-D on validation pictures", "Learning rate",
        "Speed, pictures a second", "step 50 a square step 100 a red square", "The best", "Around the median",
        "The worst", "Where it looked", "All 8 pictures that were scored.", "Words of people that the model never says",
        "learning_rate0.002 instead of 0.001", "All 4 settings", "torch2.0", "Made 2026-01-02 03:04 UTC",
        "pixel-llm caption", "Captioner.from_checkpoint(",
    ):  # fmt: skip
        assert expected in text, expected
    assert "/home/somebody" not in page
    assert page.count("<figcaption") == 4 * (3 + 1)  # four captions of three words, each beside its picture
    assert page.count('class="badge"') == 2 * 3 + 8
    assert "prefers-color-scheme: dark" in page


@pytest.mark.parametrize(
    "part", ["options.toml", "metrics.jsonl", "panel.jsonl", "environment.json", "data.json", "evaluation"]
)
def test_without_a_part_the_page_says_why_and_shows_the_rest(tmp_path, part):
    run = make_run(tmp_path)
    shutil.rmtree(run / part) if part == "evaluation" else (run / part).unlink()
    record = read_run(run)
    _, elements, text = page_of(run)
    (why,) = record.missing.values()
    assert why in text
    assert "There is no model that could be asked" in text
    assert elements.tags.count("h2") >= 8


def test_a_run_that_was_killed_at_once_has_a_page(tmp_path):
    run = make_run(tmp_path)
    for path in run.iterdir():
        if path.name != "metrics.jsonl":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (run / "metrics.jsonl").write_text('{"kind": "start", "step": 0, "epoch": 0, "elapsed_seconds": 0.0}\n')
    _, _, text = page_of(run)
    assert "Not finished: still running, or killed" in text
    assert "It ended before the first measurement." in text
    assert "There is no caption to look at." in text


def test_a_picture_that_is_gone_leaves_its_captions(tmp_path):
    run = with_model(make_run(tmp_path))
    shutil.rmtree(tmp_path / "pictures")
    _, _, text = page_of(run)
    assert text.count("picture not found") == 1 + 2 * 3 + 8
    assert "a green square" in text
    assert "The pictures cannot be read any more." in text


def test_captions_of_an_older_checkpoint_are_told(tmp_path):
    run = make_run(tmp_path)
    assert "Captions and scores are those of" not in page_of(with_model(run))[2]
    scores = run / "evaluation" / "scores.json"
    text = scores.read_text().replace(f'"checkpoint": "{run}"', '"checkpoint": "/runs/a/checkpoints/step_1"')
    scores.write_text(text)
    assert "Captions and scores are those of step_1; the best checkpoint is now run." in page_of(run)[2]


@pytest.mark.parametrize(
    "caption", ["", "x" * 2_000, "word " * 120, "猫が好き 🦊 עברית", "\ud800 \x07\u2028 tab\t"], ids=range(5)
)
def test_any_caption_has_a_page(tmp_path, caption):
    run = with_model(make_run(tmp_path, caption=caption))
    write_report(run, tmp_path / "page.html", device=torch.device("cpu"), defaults=defaults)
    assert Elements((tmp_path / "page.html").read_text(encoding="utf-8")).tags.count("html") == 1
    assert not list(tmp_path.glob(".*.tmp"))


def test_of_many_pictures_some_are_shown_and_the_file_stays_small(tmp_path):
    run = make_run(tmp_path, num_pictures=MAX_GALLERY + 60)
    page, _, text = page_of(run)
    assert f"{MAX_GALLERY} of {MAX_GALLERY + 60} pictures, evenly spaced." in text
    assert page.count('class="badge"') == MAX_GALLERY + 3 * 6
    assert len(page) < 1_000_000


def test_the_same_run_gives_the_same_page(tmp_path):
    run = with_model(make_run(tmp_path))
    assert page_of(run)[0] == page_of(run)[0]


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_nothing_is_wider_than_the_screen_and_the_script_runs(tmp_path, width):
    run = with_model(make_run(tmp_path, caption="x" * 300, num_pictures=60))
    write_report(run, tmp_path / "page.html", device=torch.device("cpu"), defaults=defaults)
    # A frame of the very width, for a window has a least one; the page's own policy holds inside of it.
    measure = "d=document.querySelector('iframe').contentDocument;document.title=[d.documentElement.scrollWidth,"
    measure += "d.documentElement.className,d.querySelectorAll('#pictures .cell:not([hidden])').length].join(' ')"
    frame = f'<iframe src="page.html" width="{width}" height="900" style="border: 0"></iframe>'
    (tmp_path / "frame.html").write_text(f"<body>{frame}<script>onload=()=>{{{measure}}}</script>")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", f"file://{tmp_path / 'frame.html'}",
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    (title,) = re.findall(r"<title>(.*?)</title>", ended.stdout)
    scroll_width, has_script, num_shown = title.split()
    assert int(scroll_width) <= width
    assert has_script == "has-script"
    assert int(num_shown) == 42  # the script shows a part of the gallery, and a button for more
