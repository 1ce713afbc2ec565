"""Folders may stand anywhere on a command line, between flags too: `train photos --out run drawings`.

A parser that takes any number of folders takes those that stand together, and calls the others unknown options. Every
flag here has one word as its value or none, so which words are folders can be told without it.
"""

from collections.abc import Sequence

from systems.pixel_llm.cli.flags import switches

__all__ = ["folders_first"]


def folders_first(arguments: Sequence[str], command: type) -> list[str]:
    """The same words, those in front that are neither a flag of `command`, a dataclass of options, nor its value."""
    if "--" in arguments:  # whoever writes it has put the folders behind it
        return list(arguments)
    have_no_value = {"--help", *(sign + name for name in switches(command) for sign in ("--", "--no-"))}
    folders, others, is_value_next = [], [], False
    for word in arguments:
        is_value, is_value_next = is_value_next, False
        if is_value or (word.startswith("-") and word != "-"):  # alone, it is stdin among the folders
            others.append(word)
            is_value_next = not is_value and word.startswith("--") and "=" not in word
            is_value_next = is_value_next and word.replace("_", "-") not in have_no_value
        else:
            folders.append(word)
    return folders + others
