"""What a service manager is told about a sidecar: units, filled in. Pure; who installs them is ``services.py``."""

from importlib import resources
from typing import Final

UNIT: Final = "agentcom-sidecar.service"
LABEL: Final = "agentcom.sidecar"


def systemd(python: str, config: str, state: str, *, is_user: bool) -> str:
    """A unit for systemd, of the system or of one user."""
    return _filled(
        "sidecar.service",
        python=_quoted(python),
        config=_quoted(config),
        state=_quoted(state),
        target="default.target" if is_user else "multi-user.target",
    )


def launchd(python: str, config: str, log: str) -> str:
    """A property list for launchd."""
    return _filled("sidecar.plist", label=LABEL, python=_escaped(python), config=_escaped(config), log=_escaped(log))


def _filled(name: str, **values: str) -> str:
    text = resources.files("provisioning").joinpath("units", name).read_text("utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _quoted(path: str) -> str:
    """A path as a word of a unit: ``%`` begins a specifier there, and ``$`` a variable."""
    plain = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"'


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
