"""compose.yaml: its passwords, ports and images, as far as no Docker is needed to see them."""

import re
import subprocess
import sys

import pytest
import yaml
from projects import ROOT

TEXT = (ROOT / "infra" / "compose.yaml").read_text()
SERVICES = yaml.safe_load(TEXT)["services"]


def passwords():
    done = subprocess.run([sys.executable, ROOT / "infra" / "passwords.py"], capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_the_script_makes_each_password_that_the_file_asks_for_and_no_two_alike():
    made, other = passwords(), passwords()
    asked = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert set(made) - {"COMPOSE_PROJECT_NAME"} == asked
    assert len(set(made.values())) == len(made)
    assert all(len(made[name]) >= 32 and made[name] != other[name] for name in asked)


def test_no_password_stands_in_the_file():
    words = re.findall(r"(?:PASSWORD|SECRET\w*|AUTH_STRING): (\S+)", TEXT)
    assert words and all(re.fullmatch(r"(admin:)?\$\{\w+:\?run", word) for word in words)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_reached_from_this_machine_alone(name):
    assert all(str(port).startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned(name):
    assert re.search(r":\d+\.\d+", SERVICES[name]["image"])


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"buckets", "worker"}))
def test_a_server_says_whether_it_is_well(name):
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
