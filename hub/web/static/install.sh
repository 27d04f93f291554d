#!/bin/sh
# Installs AgentCom from the hub that serves this, and has the machine join:
#   sh agentcom-install.sh URL --token acj1... [more words for 'agentcom join']
# What is installed is fetched from the hub that the token names, and checked before it is unpacked.
set -eu
case "$0" in *agentcom-install.sh) rm -f -- "$0" ;; esac
for python in python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$python" >/dev/null 2>&1 && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        exec "$python" - "$@" <<'PYTHON'
import hashlib, http.client, json, os, ssl, sys, tempfile, urllib.request
from pathlib import Path

words = sys.argv[1:]
url = words[0].rstrip("/") if words else ""
token = words[words.index("--token") + 1] if "--token" in words[:-1] else ""
pin = token.split(".")[1] if token.startswith("acj1.") else ""
if not url.startswith("http") or not pin:
    sys.exit("usage: sh agentcom-install.sh URL --token acj1...")


def get(path, context):
    handlers = [urllib.request.ProxyHandler({})] + ([urllib.request.HTTPSHandler(context=context)] if context else [])
    try:  # the first machine waits until the hub has packed what it serves
        with urllib.request.build_opener(*handlers).open(url + path, timeout=300) as answer:
            return answer.read()
    except (OSError, http.client.HTTPException, ValueError) as exc:
        sys.exit(f"{url}{path} cannot be fetched: {exc}; nothing secret was sent. Run the same line again")


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

offer = json.loads(get("/install/manifest.json", context))
base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "agentcom"
first = offer["wheels"][0]  # AgentCom itself knows how the rest goes
raw = get("/install/" + first["name"], context)
if hashlib.sha256(raw).hexdigest() != first["sha256"]:
    sys.exit(f"{first['name']} is not what the hub has promised; nothing was installed")
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "agentcom.zip"
    path.write_bytes(raw)
    sys.path.insert(0, str(path))
    from provisioning import environments

name = environments.current(base)
if not name:
    try:
        environments.fetch(base, offer, lambda path: get(path, context))
        name = environments.build(base, offer)
    except environments.BadOffer as exc:
        sys.exit(str(exc))
    environments.switch(base, name)
    print(f"installed AgentCom {offer['version']} in {base / 'env'}", flush=True)
elif name != environments.name_of(offer):
    print(f"AgentCom {name.rpartition('-')[0]} is installed here; agentcom upgrade brings {offer['version']}", flush=True)
program = str(environments.program(base))
os.execv(program, [program, "join", *words])
PYTHON
    fi
done
echo "AgentCom needs Python 3.11 or newer; install it and run this again" >&2
exit 5
