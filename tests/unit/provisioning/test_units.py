import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest

from provisioning import unit_texts


@pytest.mark.parametrize("is_user", [True, False])
def test_a_unit_of_systemd_names_the_program_and_nothing_is_left_to_fill_in(is_user: bool) -> None:
    text = unit_texts.systemd("/opt/a b/python", "/etc/50%/$x.toml", "/s", is_user=is_user)

    assert 'ExecStart="/opt/a b/python" -m agentcom sidecar --config "/etc/50%%/$$x.toml"' in text
    assert "@" not in text
    assert f"WantedBy={'default' if is_user else 'multi-user'}.target" in text


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here")
    unit = tmp_path / unit_texts.UNIT
    unit.write_text(unit_texts.systemd("/bin/sh", "/etc/x.toml", "/s", is_user=False))

    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert unit_texts.UNIT not in done.stderr


def test_a_property_list_of_launchd_can_be_read() -> None:
    found = plistlib.loads(unit_texts.launchd("/opt/a&b/python", "/etc/<x>.toml", "/log").encode())

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
