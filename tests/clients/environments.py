"""The clients, each pinned and installed in an environment of its own under build/clients.

Knows pip and npm; knows nothing of the service. A client's script prints one JSON object, which is
what the test reads.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FOLDER = ROOT / "build" / "clients"
INSTALL_S = 600
RUN_S = 240


class CannotInstall(Exception):
    """The registry, pip, npm or node said no; the message is what was said."""


class ClientFailed(AssertionError):
    """The client's script ended with an error; the message is its traceback."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """One client at one version."""

    name: str
    version: str
    script: str
    beside: tuple[str, ...] = ()
    """What it needs and does not ask for itself, pinned too."""
    language: Literal["python", "node"] = "python"

    @property
    def id(self) -> str:
        """What its tests are called."""
        flat = self.name.replace("@", "").replace("/", "-")
        return f"{self.language}-{flat}-{self.version}"

    @property
    def packages(self) -> tuple[str, ...]:
        """Exact versions, as pip and npm want to be told."""
        pin = "==" if self.language == "python" else "@"
        return (f"{self.name}{pin}{self.version}", *self.beside)


def run(client: Client, url: str, scenario: str, **settings: object) -> dict[str, Any]:
    """What the client's script tells of one scenario against the service at `url`.

    Raises CannotInstall or ClientFailed.
    """
    folder = installed(client)
    script = HERE / client.script
    args = (url, scenario, json.dumps(settings))
    if client.language == "python":
        command = [str(folder / "bin" / "python"), str(script), *args]
    else:
        # From stdin a module's imports are looked for in the working folder, not beside the file.
        command = ["node", "--input-type=module", "-", *args]
    done = subprocess.run(
        command,
        input=script.read_text() if client.language == "node" else "",
        cwd=folder,
        env=_environment(folder),
        capture_output=True,
        text=True,
        timeout=RUN_S,
    )
    if done.returncode != 0:
        raise ClientFailed(f"{client.id}, {scenario}:\n{done.stderr[-4000:]}")
    # The last line: some clients talk on the way.
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def installed(client: Client) -> Path:
    """The client's environment, made at the first use."""
    folder = FOLDER / client.id
    stamp = folder / "installed"
    state = " ".join(client.packages)
    if stamp.is_file() and stamp.read_text() == state:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if client.language == "python":
        _told(sys.executable, "-m", "venv", str(folder))
        # Wheels only: nothing that a client brings is run to install it.
        pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet")
        _told(*pip, "--disable-pip-version-check", "--only-binary", ":all:", *client.packages)
    else:
        (folder / "package.json").write_text("{}")
        npm = ("npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit")
        _told(*npm, "--no-fund", "--loglevel=error", *client.packages)
    stamp.write_text(state)
    return folder


def _told(*command: str) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=True)
    except FileNotFoundError:
        raise CannotInstall(f"{command[0]} is not on this machine") from None
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"{' '.join(command)}: no end after {INSTALL_S} s") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout).strip().splitlines()[-3:]
        raise CannotInstall("; ".join(line[:300] for line in last)) from None


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of the developer's own: no keys, no proxies, no caches of the home folder."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else importing it asks the internet for prices
    }
