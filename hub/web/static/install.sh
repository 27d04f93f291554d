#!/bin/sh
# Installs AgentCom from the hub that serves this, and has the machine join:
#   sh agentcom-install.sh URL --token acj1... [more words for 'agentcom join']
# What is installed is fetched from the hub that the token names, and checked before it is unpacked.
set -eu
case "$0" in *agentcom-install.sh) rm -f -- "$0" ;; esac
for python in python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$python" >/dev/null 2>&1 && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        exec "$python" - "$@" <<'PYTHON'
import hashlib, io, json, os, ssl, subprocess, sys, sysconfig, urllib.request, venv, zipfile
from pathlib import Path

words = sys.argv[1:]
url = words[0].rstrip("/") if words else ""
token = words[words.index("--token") + 1] if "--token" in words[:-1] else ""
pin = token.split(".")[1] if token.startswith("acj1.") else ""
if not url.startswith("http") or not pin:
    sys.exit("usage: sh agentcom-install.sh URL --token acj1...")


def get(path, context):
    handlers = [urllib.request.ProxyHandler({})] + ([urllib.request.HTTPSHandler(context=context)] if context else [])
    with urllib.request.build_opener(*handlers).open(url + path, timeout=60) as answer:
        return answer.read()


context = None
if pin == "web":
    context = ssl.create_default_context()
elif pin != "open":
    blind = ssl.create_default_context()
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    pem = get("/ca.pem", blind).decode().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    if hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() != pin:
        sys.exit(f"{url} is not the hub that the token names; nothing was sent or installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=pem)
elif not url.startswith("http://"):
    sys.exit("the token is for a hub without TLS, the address is not")

told = json.loads(get("/install/manifest.json", context))
base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "agentcom"
env = base / "env"
bin_ = env / "bin"
same = told["tag"] == f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
wheels = told["wheels"] if same else told["wheels"][:1]
base.mkdir(parents=True, exist_ok=True)
mark = env / "agentcom-install.json"
if not (mark.is_file() and json.loads(mark.read_text()) == wheels):
    venv.create(env, clear=True, with_pip=not same, symlinks=True)
    site = env / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    for wheel in wheels:
        raw = get("/install/" + wheel["name"], context)
        if hashlib.sha256(raw).hexdigest() != wheel["sha256"]:
            sys.exit(f"{wheel['name']} is not what the hub has promised; nothing more is installed")
        if same:
            zipfile.ZipFile(io.BytesIO(raw)).extractall(site)
        else:  # another Python, or another system: what it needs comes from the package index
            (base / wheel["name"]).write_bytes(raw)
            subprocess.run([bin_ / "pip", "install", "--quiet", base / wheel["name"]], check=True)
            (base / wheel["name"]).unlink()
    if same:
        program = bin_ / "agentcom"
        program.write_text(f"#!{bin_ / 'python'}\nfrom agentcom.cli import main\nmain()\n")
        program.chmod(0o755)
    mark.write_text(json.dumps(wheels))
    print(f"installed AgentCom {told['version']} in {env}", flush=True)
os.execv(bin_ / "agentcom", [str(bin_ / "agentcom"), "join", *words])
PYTHON
    fi
done
echo "AgentCom needs Python 3.11 or newer; install it and run this again" >&2
exit 5
