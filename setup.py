"""what pyproject.toml cannot say: pip installs manual pages and completions, which are
made of what the tools say of themselves, as make install has it"""
import os
import subprocess
import sys

from setuptools import setup  # first: it brings distutils

from distutils.command.install_data import install_data  # isort: skip

TOOLS = [f"bin/{name}" for name in sorted(os.listdir("bin")) if "~" not in name]


class InstallMade(install_data):
    """Makes the files that are installed beside the packages."""

    def run(self):
        self.make("man/man7/csb-records.7", "manual", "--records", *TOOLS)
        self.make("bash-completion/completions/csb", "completion", "bash", *TOOLS)
        self.make("zsh/site-functions/_csb", "completion", "zsh", *TOOLS)
        for tool in TOOLS:
            name = os.path.basename(tool)
            self.make(f"man/man1/{name}.1", "manual", tool)
            if name != "csb":           # bash looks for a file of the command's name
                text = b'. "${BASH_SOURCE[0]%/*}/csb"\n'
                self.write(f"bash-completion/completions/{name}", text)

    def make(self, path, maker, *words):
        command = [sys.executable, "-B", f"lib/build/{maker}", *words]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        self.write(path, done.stdout)

    def write(self, path, data):
        path = os.path.join(self.install_dir, "share", path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        self.outfiles.append(path)


# Without a file that is named here, setuptools would not ask for what is beside the
# packages.
setup(cmdclass={"install_data": InstallMade}, data_files=[("", ["README.md"])])
