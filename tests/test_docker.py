"""The image and its compose files: what linters say, what they promise, what stays out, and the health check."""

from __future__ import annotations

import fnmatch
import importlib.util
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import threading
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import pytest
from typer.main import get_command

from sweeps.cli import app

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
SCRIPTS = Path(sysconfig.get_path("scripts"))
GUIDE = ROOT / "docs" / "guide" / "docker.md"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GPU, CPU = ["compose.yaml"], ["compose.yaml", "compose.cpu.yaml"]
USER = {"SWEEP_USER": "1000:1000"}


def instructions(name: str) -> list[str]:
    """Arguments of each instruction of that name in the Dockerfile, in their order."""
    lines = "\n".join(line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    return [arguments for word, _, arguments in (line.partition(" ") for line in joined.splitlines()) if word == name]


def default_of(argument: str) -> str:
    (default,) = [text.partition("=")[2] for text in instructions("ARG") if text.startswith(f"{argument}=")]
    return default


class TestDockerfile:
    @staticmethod
    def lint(folder: Path) -> subprocess.CompletedProcess[str]:
        command = [SCRIPTS / "hadolint", "--no-color", "--config", folder / "hadolint.yaml", folder / "Dockerfile"]
        return subprocess.run(command, capture_output=True, text=True)

    def test_hadolint_finds_nothing(self) -> None:
        linted = self.lint(DOCKER)
        assert (linted.stdout, linted.stderr, linted.returncode) == ("", "", 0)

    @pytest.mark.parametrize(
        ("old", "new", "rule"),
        [
            ("USER 10001:10001", "USER root", "DL3002"),
            (" --no-install-recommends", "", "DL3015"),
            ("# hadolint ignore=DL3008\n", "", "DL3008"),
            ('ENTRYPOINT ["sweep"]', "ENTRYPOINT sweep", "DL3025"),
            ("WORKDIR /work\n", "WORKDIR work\n", "DL3000"),
            ("apt-get install --yes", "apt-get install", "DL3014"),
            ("org.opencontainers.image.source", "org.opencontainers.image.origin", "DL3049"),
            ('image.licenses="MIT"', 'image.licenses="ours"', "DL3054"),
        ],
    )
    def test_hadolint_fails_on_a_broken_copy(self, tmp_path: Path, old: str, new: str, rule: str) -> None:
        shutil.copy(DOCKER / "hadolint.yaml", tmp_path)
        assert old in DOCKERFILE
        (tmp_path / "Dockerfile").write_text(DOCKERFILE.replace(old, new), encoding="utf-8")
        linted = self.lint(tmp_path)
        assert linted.returncode == 1
        assert rule in linted.stdout

    def test_an_ignored_rule_has_its_reason_above(self) -> None:
        lines = DOCKERFILE.splitlines()
        for number, line in enumerate(lines):
            if line.startswith("# hadolint ignore="):
                assert lines[number - 1].startswith("# ")

    def test_it_begins_with_its_base(self) -> None:
        first = next(line for line in DOCKERFILE.splitlines() if line and not line.startswith("#"))
        assert first.startswith("ARG BASE_IMAGE=nvidia/cuda:")
        assert instructions("FROM")[0] == "${BASE_IMAGE} AS python"

    def test_its_labels_are_the_projects(self) -> None:
        assert default_of("VERSION") == PROJECT["version"]
        (labels,) = instructions("LABEL")
        said = dict(part.partition("=")[::2] for part in shlex.split(labels))
        assert said["org.opencontainers.image.title"] == PROJECT["name"]
        assert said["org.opencontainers.image.description"] == PROJECT["description"]
        assert said["org.opencontainers.image.licenses"] == PROJECT["license"]
        assert said["org.opencontainers.image.version"] == "${VERSION}"

    def test_packages_are_pinned_and_hold_gpt2s_vocabulary(self) -> None:
        assert "PIP_CONSTRAINT=/src/constraints.txt" in " ".join(instructions("ENV"))
        assert '*project["optional-dependencies"]["offline"]' in DOCKERFILE

    def test_packages_hold_the_driver_of_postgresql(self) -> None:
        assert '*project["optional-dependencies"]["postgres"]' in DOCKERFILE

    def test_it_runs_the_command_without_rights(self) -> None:
        assert instructions("USER") == ["10001:10001"]
        assert instructions("ENTRYPOINT") == ['["sweep"]']
        assert instructions("WORKDIR")[-1] == "/work"
        (check,) = instructions("HEALTHCHECK")
        assert check.endswith('CMD ["python", "/opt/plateau-sweep/health.py"]')


class TestDockerignore:
    @staticmethod
    def sent(path: str) -> bool:
        """Whether a file is sent to the builder: the last pattern counts that matches it or a folder above it."""
        names = [str(name) for name in [PurePosixPath(path), *PurePosixPath(path).parents]][:-1]
        sent = True
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#") and any(matches(name, line.removeprefix("!")) for name in names):
                sent = line.startswith("!")
        return sent

    @pytest.mark.parametrize(
        "path",
        [
            *(".git/config", ".venv/bin/python", ".ci/run", ".env", "docker/.env", "sweeps/.env", ".pytest_cache/x"),
            *("runs/plateau/study.db", "data/train.bin", "tests/test_docker.py", "docs/guide/docker.md"),
            *("benchmarks/parity.py", "Makefile", "docker/Dockerfile", "docker/check.py", "dist/x.whl"),
            *("sweeps/__pycache__/cli.cpython-311.pyc", "trainer/run/__pycache__/notes", "trainer/loop.pyc"),
        ],
    )
    def test_it_keeps_out(self, path: str) -> None:
        assert not self.sent(path)

    def test_it_lets_in_what_is_copied(self) -> None:
        sources = [
            source
            for arguments in instructions("COPY")
            if not arguments.startswith("--from")
            for source in arguments.split()[:-1]
        ]
        assert {"sweeps", "trainer", "studies", "constraints.txt", "docker/health.py"} <= set(sources)
        for source in sources:
            files = [path for path in (ROOT / source).rglob("*") if path.is_file()] or [ROOT / source]
            files = [path for path in files if "__pycache__" not in path.parts]
            assert all(path.exists() and self.sent(path.relative_to(ROOT).as_posix()) for path in files), source

    @pytest.mark.parametrize(
        ("name", "pattern", "expected"),
        [
            ("a", "*", True),
            ("a/b", "*", False),
            ("a/b/.c", "**/.*", True),
            ("a/b", "a/*", True),
            ("ab", "a", False),
        ],
    )
    def test_the_rules_of_this_test(self, name: str, pattern: str, expected: bool) -> None:
        assert matches(name, pattern) is expected


def matches(name: str, pattern: str) -> bool:
    """Whether a path matches a pattern of .dockerignore, where `**` stands for any number of folders."""
    parts, wanted = name.split("/"), pattern.split("/")
    if wanted[0] == "**":
        return any(matches("/".join(parts[start:]), "/".join(wanted[1:])) for start in range(len(parts)))
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


class TestCompose:
    @staticmethod
    def config(files: Sequence[Path], *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [SCRIPTS / "docker-compose", *(word for file in files for word in ("-f", file)), "config"]
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("SWEEP_", "COMPOSE_"))}
        return subprocess.run([*command, *arguments], capture_output=True, text=True, env={**mine, **environment})

    def services(self, names: Sequence[str], **environment: str) -> Any:
        said = self.config([DOCKER / name for name in names], "--format", "json", **{**USER, **environment})
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout)["services"]

    @pytest.mark.parametrize("names", [GPU, CPU])
    def test_compose_finds_nothing(self, names: Sequence[str]) -> None:
        said = self.config([DOCKER / name for name in names], "-q", **USER)
        assert (said.stdout, said.stderr, said.returncode) == ("", "", 0)

    @pytest.mark.parametrize(
        ("broken", "old", "new"),
        [
            ("compose.yaml", "read_only: true\n  tmpfs", "read_onyl: true\n  tmpfs"),
            ("compose.yaml", "stop_grace_period: 2m", "stop_grace_period: soon"),
            ("compose.yaml", "volumes: [*runs, *studies]", "volumes: [*runs, *data]"),
            ("compose.yaml", "127.0.0.1:8080:8080", "127.0.0.1:8080:http"),
            ("compose.yaml", "capabilities: [gpu]", "capabilities: gpu"),
            ("compose.cpu.yaml", "image: plateau-sweep:cpu", "imagge: plateau-sweep:cpu"),
            ("compose.cpu.yaml", "deploy: !reset null", "deploy: none"),
        ],
    )
    def test_compose_fails_on_a_broken_copy(self, tmp_path: Path, broken: str, old: str, new: str) -> None:
        for name in CPU:
            shutil.copy(DOCKER / name, tmp_path)
        text = (tmp_path / broken).read_text(encoding="utf-8")
        assert text.count(old) == 1
        (tmp_path / broken).write_text(text.replace(old, new), encoding="utf-8")
        names = CPU if broken == "compose.cpu.yaml" else GPU
        assert self.config([tmp_path / name for name in names], "-q", **USER).returncode != 0

    def test_files_belong_to_whoever_started_it_or_it_does_not_start(self) -> None:
        said = self.config([DOCKER / "compose.yaml"], "-q")
        assert said.returncode != 0
        assert "SWEEP_USER is missing a value: is not set; export SWEEP_USER=$(id -u):$(id -g)" in said.stderr
        assert {service["user"] for service in self.services(GPU, SWEEP_USER="7:8").values()} == {"7:8"}

    @pytest.mark.parametrize("names", [GPU, CPU])
    def test_both_services_run_without_rights_on_the_same_results(self, names: Sequence[str]) -> None:
        services = self.services(names)
        assert set(services) == {"sweep", "dashboard"}
        for service in services.values():
            assert service["read_only"]
            assert service["init"]
            assert service["tmpfs"] == ["/tmp"]  # noqa: S108  # of the container
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            (runs,) = [volume for volume in service["volumes"] if volume["target"] == "/work/runs"]
            assert runs["source"] == str(ROOT / "runs")
            assert not runs.get("read_only")
            assert not runs["bind"].get("create_host_path")
            assert all(volume.get("read_only") for volume in service["volumes"] if volume is not runs)

    def test_the_dashboard_is_published_on_this_machine_alone(self) -> None:
        dashboard = self.services(GPU)["dashboard"]
        assert [(port["host_ip"], port["published"], port["target"]) for port in dashboard["ports"]] == [
            ("127.0.0.1", "8080", 8080)
        ]
        assert dashboard["restart"] == "unless-stopped"
        assert dashboard["healthcheck"]["test"] == ["CMD", "python", "/opt/plateau-sweep/health.py"]
        assert "ports" not in self.services(GPU)["sweep"]

    def test_only_a_sweep_reserves_cards_and_none_on_a_cpu(self) -> None:
        gpu, cpu = self.services(GPU), self.services(CPU)
        (device,) = gpu["sweep"]["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", -1, ["gpu"])
        assert "deploy" not in gpu["dashboard"]
        assert "deploy" not in cpu["sweep"]
        arguments = {text.partition("=")[0] for text in instructions("ARG")}
        for service in cpu.values():
            assert set(service["build"]["args"]) == {"BASE_IMAGE", "TORCH_INDEX_URL"} <= arguments
            assert service["build"]["context"] == str(ROOT)
            assert service["image"] != gpu["sweep"]["image"]

    def test_postgresql_is_there_with_its_profile_alone(self, tmp_path: Path) -> None:
        secret = tmp_path / "password"
        services = self.services(CPU, COMPOSE_PROFILES="postgres", SWEEP_PASSWORD=str(secret))
        assert set(services) == {"sweep", "dashboard", "postgres"}
        server = services["postgres"]
        (volume,) = server["volumes"]
        assert (volume["type"], volume["source"]) == ("volume", "postgres")
        assert server["environment"].items() >= {("POSTGRES_PASSWORD_FILE", "/run/secrets/postgres-password")}
        assert "POSTGRES_PASSWORD" not in server["environment"]
        assert server["healthcheck"]["test"][1] == "pg_isready"
        assert [port["host_ip"] for port in server["ports"]] == ["127.0.0.1"]
        for name in ("sweep", "dashboard"):
            assert services[name]["depends_on"]["postgres"] == {"condition": "service_healthy", "required": False}
            assert services[name]["environment"]["PGPASSWORD_FILE"] == "/run/secrets/postgres-password"
        assert all(service["secrets"][0]["source"] == "postgres-password" for service in services.values())
        whole = self.config([DOCKER / "compose.yaml"], "--format", "json", **USER, SWEEP_PASSWORD=str(secret)).stdout
        assert json.loads(whole)["secrets"]["postgres-password"]["file"] == str(secret)

    def test_the_study_and_the_data_are_the_users(self) -> None:
        services = self.services(GPU, SWEEP_STUDY="studies/mine.yaml", SWEEP_DATA="/big/fineweb")
        assert services["sweep"]["command"] == ["run", "studies/mine.yaml"]
        assert services["dashboard"]["command"][:2] == ["dashboard", "studies/mine.yaml"]
        assert {"/big/fineweb": "/work/data"}.items() <= {
            volume["source"]: volume["target"] for volume in services["sweep"]["volumes"]
        }.items()
        assert self.services(GPU)["sweep"]["command"] == ["run", "studies/plateau.yaml"]


def health() -> ModuleType:
    """docker/health.py, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("health", DOCKER / "health.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestHealth:
    @pytest.mark.parametrize(
        ("command", "address"),
        [
            ("/opt/venv/bin/python /opt/venv/bin/sweep run studies/plateau.yaml", None),
            ("sweep dashboard plateau --port 8080", "http://127.0.0.1:8080"),
            ("/sbin/docker-init -- sweep dashboard x.yaml --host 0.0.0.0 --port 8080", "http://127.0.0.1:8080"),
            ("sweep dashboard plateau --port=80 --host=10.0.0.2 --no-browser", "http://10.0.0.2:80"),
            ("sweep dashboard --out runs/elsewhere --port 8080 plateau", "http://127.0.0.1:8080"),
            ("sweep dashboard plateau", None),  # on a free port, which nobody knows
            ("sweep status dashboards --port 80", None),
        ],
    )
    def test_whom_it_asks(self, command: str, address: str | None) -> None:
        assert health().address(command.split()) == address

    @staticmethod
    @contextmanager
    def server(status: int) -> Iterator[tuple[int, list[str]]]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...

        with HTTPServer(("127.0.0.1", 0), Handler) as running:
            thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield running.server_port, asked
            finally:
                running.shutdown()
                thread.join()

    @staticmethod
    def process(folder: Path, command: str) -> Path:
        file = folder / "cmdline"
        file.write_text(command.replace(" ", "\0") + "\0")
        return file

    def test_a_dashboard_that_answers_is_healthy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # a proxy can't reach a container's own address
        with self.server(200) as (port, asked):
            assert health().main(self.process(tmp_path, f"sweep dashboard plateau --port {port}")) == 0
        assert asked == ["/api/studies"]

    def test_a_dashboard_that_fails_or_is_gone_is_not(self, tmp_path: Path) -> None:
        with self.server(500) as (port, _), pytest.raises(OSError, match="500"):
            health().main(self.process(tmp_path, f"sweep dashboard plateau --port {port}"))
        with pytest.raises(OSError, match="refused"):
            health().main(self.process(tmp_path, f"sweep dashboard plateau --port {port}"))

    def test_everything_else_is_healthy(self, tmp_path: Path) -> None:
        assert health().main(self.process(tmp_path, "sweep run studies/plateau.yaml")) == 0


class TestGuide:
    """Its commands name services, options, build arguments and variables that exist."""

    @staticmethod
    def commands(beginning: str) -> list[list[str]]:
        text = GUIDE.read_text(encoding="utf-8")
        lines = [*re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE), *re.findall(r"`([^`\n]+)`", text)]
        return [shlex.split(line) for line in lines if line.startswith(beginning)]

    def test_compose_commands(self) -> None:
        services = json.loads(
            TestCompose.config([DOCKER / "compose.yaml"], "--format", "json", **USER).stdout,
        )["services"]
        commands = [words[2:] for words in self.commands("docker compose ")]
        assert {words[0] for words in commands} >= {"build", "up", "stop", "run"}
        for words in commands:
            named = [word for word in words[1:] if not word.startswith("-")]
            if words[0] == "run":
                assert named[0] == "sweep", words
                self.check_sweep(words[words.index("sweep") + 1 :])
            else:
                assert set(named) <= set(services), words

    def test_docker_commands(self) -> None:
        (build,) = self.commands("docker build ")
        given = [value.partition("=")[0] for option, value in itertools.pairwise(build) if option == "--build-arg"]
        assert set(given) <= {text.partition("=")[0] for text in instructions("ARG")}
        assert build[build.index("--file") + 1] == "docker/Dockerfile"
        tag = build[build.index("--tag") + 1]
        for run in self.commands("docker run "):
            self.check_sweep(run[run.index(tag) + 1 :])

    @staticmethod
    def check_sweep(words: Sequence[str]) -> None:
        command = get_command(app).commands[words[0]]  # type: ignore[attr-defined]  # a group has them
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} <= known, words

    def test_variables(self) -> None:
        files = "".join((DOCKER / name).read_text(encoding="utf-8") for name in CPU)
        named = set(re.findall(r"\bSWEEP_[A-Z]+", GUIDE.read_text(encoding="utf-8")))
        assert named == set(re.findall(r"\$\{(SWEEP_[A-Z]+)", files))
