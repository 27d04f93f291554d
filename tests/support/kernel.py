"""What the Linux kernel shows of GPUs in /sys and /proc, made up in a folder."""

from pathlib import Path

MIB = 1 << 20


def write(path: Path, content: object) -> None:
    """A file of the kernel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{content}\n")


def card(root: Path, number: int, address: str, vendor: str, driver: str, **files: object) -> Path:
    """A GPU on the PCI bus; ``__`` in the names of ``files`` stands for a slash. Returns the folder of its device."""
    device = root / "sys/bus/pci/devices" / address
    for name, content in {"vendor": vendor, "device": "0x744c", "revision": "0xc8", **files}.items():
        write(device / name.replace("__", "/"), content)
    drivers = root / "sys/bus/pci/drivers" / driver
    drivers.mkdir(parents=True, exist_ok=True)
    (device / "driver").symlink_to(drivers)
    entry = root / f"sys/class/drm/card{number}"
    entry.mkdir(parents=True)
    (entry / "device").symlink_to(device)
    (root / f"sys/class/drm/card{number}-DP-1").mkdir()
    return device


def client(root: Path, pid: int, descriptor: int, address: str, number: int, **memory: str) -> None:
    """A process that has a GPU open; ``memory`` is by region: ``vram="10 MiB"``; ``_`` in it stands for a dash."""
    process = root / "proc" / str(pid)
    for folder in ("fd", "fdinfo"):
        (process / folder).mkdir(parents=True, exist_ok=True)
    (process / "fd" / str(descriptor)).symlink_to("/dev/dri/renderD128")
    lines = [f"drm-driver:\tx\ndrm-pdev:\t{address}\ndrm-client-id:\t{number}"]
    lines += [f"drm-{name.replace('_', '-')}:\t{size}" for name, size in memory.items()]
    write(process / "fdinfo" / str(descriptor), "\n".join(lines))
