"""Every flag of every command with its default, as recorded in `cli_flags.json`: scripts and run folders rely on them.

A flag that is renamed, lost or given another default changes what other people's command lines mean, so it shows here.
"""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from systems.pixel_llm.cli import options
from systems.pixel_llm.cli.main import COMMANDS
from systems.pixel_llm.models.config import PRESETS

SNAPSHOT = Path(__file__).with_name("cli_flags.json")
RENAMED = {"form": "as"}
"""Fields whose flag has another name, which Python keeps for itself."""
RENEW = (
    "If the change is meant, say it in CHANGELOG.md and renew the record:\n"
    "  python -m tests.contract.test_cli_snapshot > tests/contract/cli_flags.json"
)


def flags() -> dict[str, dict[str, object]]:
    """Command -> flag -> default; the presets of `train` under a name of their own."""
    device = ["--device", "cpu"]  # the default preset depends on the machine
    commands = {
        "train": options.parse_train(["DATA", *device]),
        "caption": options.parse_caption(["RUN", "PICTURE", *device]),
        "evaluate": options.parse_evaluate(["RUN", *device]),
        "report": options.parse_report(["RUN", *device]),
        "checkpoints": options.parse_checkpoints(["RUN"]),
        "demo": options.parse_demo(device),
        "inspect": options.parse_inspect(["DATA"]),
        "export": options.parse_export(["RUN", "OUT"]),
        "split": options.parse_split(["DATA", "--out", "OUT"]),
    }
    found: dict[str, dict[str, object]] = {name: dict(flags_of(command)) for name, command in commands.items()}
    for preset in PRESETS:
        of_preset = dict(flags_of(options.parse_train(["DATA", "--preset", preset, *device])))
        found[f"train --preset {preset}"] = {
            flag: default for flag, default in of_preset.items() if default != found["train"][flag]
        }
    return json.loads(json.dumps(found, default=str))


def flags_of(command):
    for each in fields(command):
        value = getattr(command, each.name)
        if is_dataclass(value):
            yield from flags_of(value)
        elif each.name in ("data", "pictures") or (each.name in ("run", "out") and isinstance(value, Path)):
            continue  # not flags
        else:
            name = RENAMED.get(each.name, each.name)
            yield f"--{name.replace('_', '-')}", None if each.name == "device" else value


@pytest.mark.parametrize("command", [*COMMANDS, *(f"train --preset {preset}" for preset in PRESETS)])
def test_flags_and_defaults_are_those_recorded(command):
    recorded, found = json.loads(SNAPSHOT.read_text(encoding="utf-8")).get(command, {}), flags()[command]
    changes = [
        f"{flag}: {recorded.get(flag, '(no such flag)')!r} recorded, {found.get(flag, '(no such flag)')!r} now"
        for flag in sorted(recorded.keys() | found.keys())
        if flag not in recorded or flag not in found or recorded[flag] != found[flag]
    ]
    assert not changes, f"pixel-llm {command}:\n  " + "\n  ".join(changes) + f"\n{RENEW}"


def test_the_record_has_every_command():
    assert json.loads(SNAPSHOT.read_text(encoding="utf-8")).keys() == flags().keys()


def test_each_flag_is_shown_by_the_commands_help(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            getattr(options, f"parse_{command}")(["--help"])
        shown = capsys.readouterr().out
        assert [flag for flag in flags()[command] if flag not in shown] == []


if __name__ == "__main__":
    print(json.dumps(flags(), indent=2))
