import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest

from provisioning import unit_texts


@pytest.mark.parametrize("is_user", [True, False])
def test_a_unit_of_systemd_names_the_program_and_nothing_is_left_to_fill_in(is_user: bool) -> None:
    text = unit_texts.systemd(("/opt/a b/python", "-m", "agentcom"), "/etc/50%/$x.toml", "/s", is_user=is_user)

    assert 'ExecStart="/opt/a b/python" "-m" "agentcom" sidecar --config "/etc/50%%/$$x.toml"' in text
    assert "@" not in text
    assert f"WantedBy={'default' if is_user else 'multi-user'}.target" in text


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here")
    texts = {
        unit_texts.UNIT: unit_texts.systemd(("/bin/sh",), "/etc/x.toml", "/s", is_user=False),
        unit_texts.UPGRADE_UNIT: unit_texts.upgrade(("/bin/sh",), "/etc/x.toml", "/s", "/s/upgrade.wanted"),
        unit_texts.UPGRADE_PATH: unit_texts.upgrade_path("/s/upgrade.wanted", is_user=False),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)

    units = [str(tmp_path / name) for name in texts]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert not [line for line in done.stderr.splitlines() if "agentcom" in line]


def test_an_upgrade_that_the_hub_wants_is_begun_once_and_may_take_as_long_as_running_work() -> None:
    does = unit_texts.upgrade(("/a b/agentcom",), "/etc/50%/x.toml", "/s", "/s/50%/wanted")
    watch = unit_texts.upgrade_path("/s/50%/wanted", is_user=True)

    assert 'ExecStopPost=rm -f "/s/50%%/wanted"' in does
    assert 'ExecStart="/a b/agentcom" upgrade --yes --config "/etc/50%%/x.toml" --state-dir "/s"' in does
    assert f"PathExists=/s/50%%/wanted\nUnit={unit_texts.UPGRADE_UNIT}" in watch
    assert "WantedBy=default.target" in watch
    assert "@" not in does + watch


def test_a_property_list_of_launchd_can_be_read() -> None:
    found = plistlib.loads(unit_texts.launchd(("/opt/a&b/python", "-m", "agentcom"), "/etc/<x>.toml", "/log").encode())

    assert found["Label"] == unit_texts.LABEL
    assert found["ProgramArguments"] == [
        "/opt/a&b/python",
        "-m",
        "agentcom",
        "sidecar",
        "--config",
        "/etc/<x>.toml",
    ]
    assert found["KeepAlive"]
