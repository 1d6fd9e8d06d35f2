"""The clients that the tests here are run on,
each brought by npm when it is first asked for.

CSB_CLIENT=npm brings them into directories that are thrown away; else it
is the path of a client, or paths with : between them. CSB_CLIENT_VERSIONS
says which npm is to bring, CSB_CLIENT_VERSION that it is this one alone.
The tests of the plugin run on the first.
"""
import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from glob import glob

import pytest

CLIENT = os.environ.get("CSB_CLIENT")
NPM = CLIENT == "npm"
VERSIONS = (
    os.environ.get("CSB_CLIENT_VERSION")
    or os.environ.get("CSB_CLIENT_VERSIONS")
    or "2.1.332 2.0.76"
).split()
RELEASES = VERSIONS if NPM or not CLIENT else CLIENT.split(":")


@functools.cache
def brought(release):
    """(the path of the client, why there is none)"""
    if not NPM:
        return release, None
    if not shutil.which("npm"):
        return None, "npm is not here: CSB_CLIENT may name a client"
    top = tempfile.mkdtemp(prefix="csb-client-")
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", top,
                           f"@anthropic-ai/claude-code@{release}"], capture_output=True,
                          text=True, timeout=600, stdin=subprocess.DEVNULL)
    if done.returncode:
        return None, f"npm cannot bring the client: {done.stderr.strip()[-200:]}"
    found = glob(f"{top}/node_modules/@anthropic-ai/claude-code-*/claude") + glob(
        f"{top}/node_modules/.bin/claude")
    return found[0], None


def client_of(release):
    """The path of the client of a release, else the test fails:
    somebody has asked for it."""
    path, why_not = brought(release)
    if why_not:
        pytest.fail(why_not, pytrace=False)
    if not os.access(path, os.X_OK):
        pytest.fail(f"CSB_CLIENT names what is no program: {path}")
    return path
