"""`pixel-llm export RUN OUT`: the best checkpoint of a run as a plain folder to give away, with its model card."""

import os
from pathlib import Path
from shlex import quote

from systems.pixel_llm.cli.options import ExportOptions
from systems.pixel_llm.evaluation.model_card import CardModel, check_language, check_license, model_card
from systems.pixel_llm.evaluation.run_facts import read_run_facts
from systems.pixel_llm.inference import ExportedModel, export_model, find_checkpoint
from systems.pixel_llm.inference.export import MODEL_CARD_FILE

__all__ = ["run"]


def run(options: ExportOptions) -> int:
    """Run the command; the exit status is 0, or an error is raised."""
    if options.license is not None:
        check_license(options.license)
    if options.language is not None:
        check_language(options.language)
    checkpoint = find_checkpoint(options.run, name=options.checkpoint)
    facts = read_run_facts(checkpoint)
    name = Path(os.path.abspath(options.out)).name  # noqa: PTH100  # a link is told by its own name

    def write_card(exported: ExportedModel) -> str:
        model = CardModel(
            name=name,
            config=exported.model.config,
            num_tokens=exported.model.tokenizer.vocab_size,
            num_parameters=exported.num_parameters,
            dtype=exported.dtype,
            num_bytes=exported.num_bytes,
            sha256=exported.sha256,
        )
        return model_card(model, facts, license_name=options.license, language=options.language)

    exported = export_model(
        checkpoint, options.out, write_card=write_card, dtype=options.dtype, overwrite=options.overwrite
    )
    folder = quote(str(options.out))
    print(f"model: {options.out} (checkpoint {checkpoint.name}, {exported.dtype}, {exported.num_bytes / 1e6:.1f} MB)")
    print(f"model card: {options.out / MODEL_CARD_FILE}")
    print("checked: loaded again from there, the weights are those of the checkpoint" + _rounded(exported))
    print(f"to caption: pixel-llm caption {folder} PICTURE...")
    print(f"from Python: Captioner.from_checkpoint({str(options.out)!r}).caption(PICTURE)")
    if not facts.scores:
        print(
            f"not evaluated, and the card says so: pixel-llm evaluate {quote(str(options.run))} DATA, then export again"
        )
    if options.license is None:
        print("no licence in the card: --license NAME puts it there")
    return 0


def _rounded(exported: ExportedModel) -> str:
    return "" if exported.dtype == "fp32" else f", rounded to {exported.dtype}"
