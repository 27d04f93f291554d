"""Write the files for Prometheus, Alertmanager and Grafana anew: ``python -m tests.ops.generate``.

With ``--docs URL`` links to runbooks begin with that; ``--into DIR`` writes somewhere else.
"""

import argparse
import json
from pathlib import Path
from typing import Final

import yaml

from tests.ops import boards, rules, scenes

OPS: Final = Path(__file__).parents[2] / "ops"
_HEAD: Final = "# Written by python -m tests.ops.generate; a test keeps it equal to what it is made of.\n"


def files(docs: str = "") -> dict[str, str]:
    """What is written, by its place under ``ops/``; ``docs``: where the documentation is, with a slash at the end."""
    found = {
        "prometheus/agentcom.rules.yaml": _yaml(rules.rule_file(docs=docs)),
        "prometheus/agentcom.tests.yaml": _yaml(scenes.unit_tests(docs=docs)),
        "alertmanager/alertmanager.yaml": _yaml(rules.alertmanager_file()),
    }
    for name in boards.BOARDS:
        found[f"grafana/{name}.json"] = json.dumps(boards.board(name), indent=1) + "\n"
    return found


def _yaml(content: object) -> str:
    return _HEAD + yaml.dump(content, Dumper=_Plain, sort_keys=False, width=118, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Writes what stands in two places twice: people read it."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the interface of the library
        return True


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(prog="python -m tests.ops.generate", description=__doc__)
    parser.add_argument("--docs", default="", metavar="URL")
    parser.add_argument("--into", type=Path, default=OPS, metavar="DIR")
    asked = parser.parse_args()
    docs = f"{asked.docs.rstrip('/')}/" if asked.docs else ""
    for name, text in files(docs).items():
        path = asked.into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
