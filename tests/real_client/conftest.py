"""The client comes by npm into a directory that is thrown away, or CSB_CLIENT names one.

make test-client sets CSB_CLIENT=npm. CSB_CLIENT_VERSION asks for another version, CSB_ENDS=50 for
that many ends in the test that counts them.
"""
import os
import shutil
import subprocess
import sys
import tempfile
from glob import glob

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from client import ROOT, Client

CLIENT = os.environ.get("CSB_CLIENT")
VERSION = os.environ.get("CSB_CLIENT_VERSION", "2.1.329")


def pytest_collection_modifyitems(items):
    """make test does not download hundreds of megabytes."""
    mark = pytest.mark.skip(reason="the real client: make test-client")
    for item in items:
        if not CLIENT and str(item.path.parent) == os.path.dirname(__file__):
            item.add_marker(mark)


@pytest.fixture(scope="session")
def binary():
    """The path of the client."""
    if CLIENT != "npm":
        if not os.access(CLIENT, os.X_OK):
            pytest.fail(f"CSB_CLIENT is neither npm nor a program: {CLIENT}")
        yield CLIENT
        return
    if not shutil.which("npm"):
        pytest.skip("npm is not here: CSB_CLIENT may name a client")
    with tempfile.TemporaryDirectory(prefix="csb-client-") as top:
        done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", top,
                               f"@anthropic-ai/claude-code@{VERSION}"], capture_output=True,
                              text=True, timeout=600, stdin=subprocess.DEVNULL)
        if done.returncode:
            pytest.skip(f"npm cannot bring the client: {done.stderr.strip()[-200:]}")
        found = glob(f"{top}/node_modules/@anthropic-ai/claude-code-*/claude") + glob(
            f"{top}/node_modules/.bin/claude")
        yield found[0]


@pytest.fixture
def clients(binary, tmp_path):
    """A function that makes a client, with the plugin of this repository or without."""
    made = []

    def make(name, plugin=ROOT):
        client = Client(binary, tmp_path / name)
        made.append(client.__enter__())
        if plugin:
            client.run("plugin", "marketplace", "add", plugin)
            client.run("plugin", "install", "csb@csb-tools")
        return client
    yield make
    for client in made:
        client.__exit__()
        assert not client.stub.refused, "it looked for other hosts"


@pytest.fixture
def client(clients):
    """A client with the plugin."""
    return clients("c")


@pytest.fixture
def tell(capsys):
    """Print a figure where a person sees it."""
    def say(text):
        with capsys.disabled():
            print(f"\n    {text}", end=" ", flush=True)
    return say
