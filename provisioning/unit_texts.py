"""What a service manager is told about a sidecar: units, filled in. Pure; who installs them is ``services.py``."""

from collections.abc import Sequence
from importlib import resources
from typing import Final

UNIT: Final = "agentcom-sidecar.service"
UPGRADE_UNIT: Final = "agentcom-upgrade.service"
UPGRADE_PATH: Final = "agentcom-upgrade.path"
LABEL: Final = "agentcom.sidecar"


def systemd(program: Sequence[str], config: str, state: str, *, is_user: bool) -> str:
    """A unit for systemd, of the system or of one user; ``program``: the words that are the command ``agentcom``."""
    return _filled(
        "sidecar.service",
        program=" ".join(_quoted(word) for word in program),
        config=_quoted(config),
        state=_quoted(state),
        target=_target(is_user=is_user),
    )


def upgrade_path(wanted: str, *, is_user: bool) -> str:
    """A unit for systemd that starts :data:`UPGRADE_UNIT` as soon as there is a file ``wanted``."""
    return _filled("upgrade.path", wanted=wanted.replace("%", "%%"), target=_target(is_user=is_user))


def upgrade(program: Sequence[str], config: str, state: str, wanted: str) -> str:
    """A unit for systemd that upgrades this machine, once."""
    words = " ".join(_quoted(word) for word in program)
    places = {"config": _quoted(config), "state": _quoted(state), "wanted_word": _quoted(wanted)}
    return _filled("upgrade.service", program=words, **places)


def _target(*, is_user: bool) -> str:
    return "default.target" if is_user else "multi-user.target"


def launchd(program: Sequence[str], config: str, log: str) -> str:
    """A property list for launchd; ``program`` as of :func:`systemd`."""
    words = "".join(f"<string>{_escaped(word)}</string>" for word in program)
    return _filled("sidecar.plist", label=LABEL, program=words, config=_escaped(config), log=_escaped(log))


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
