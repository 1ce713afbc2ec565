"""`python -m systems.pixel_llm` is the `pixel-llm` command."""

from systems.pixel_llm.cli.main import entry_point

if __name__ == "__main__":
    entry_point()
