"""What deploy/ holds is what Dagster, AWS and the image take: all that can be known without them.

Configurations are loaded through Dagster's own schemas, ECS is moto, the image's command is
started as a plain process.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
import yaml
from dagster._config import process_config
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import LaunchRunContext
from dagster_aws.ecs import EcsRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.launcher import K8sRunLauncher
from moto import mock_aws

from imgflow.defs.queue import CATALOG_TAG
from imgflow.errors import ImgflowError
from imgflow.serve import command
from imgflow.store.place import Place

DEPLOY = Path(__file__).parents[1] / "deploy"
REGION = "eu-central-1"
ENVIRONMENT = {
    "DAGSTER_PG_HOST": "db.example",
    "DAGSTER_PG_USER": "imgflow",
    "DAGSTER_PG_PASSWORD": "secret",
    "DAGSTER_PG_DB": "imgflow",
    "IMGFLOW_LOGS_BUCKET": "logs",
    "IMGFLOW_RUN_TASK": "imgflow-run",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def home_of(settings: Path, folder: Path) -> Path:
    """A DAGSTER_HOME with these settings."""
    (folder / "dagster.yaml").write_bytes(settings.read_bytes())
    return folder


@pytest.mark.parametrize("settings", ["dagster.yaml", "compose/dagster.yaml"])
def test_settings_load_through_dagsters_schema(tmp_path: Path, settings: str) -> None:
    home = home_of(DEPLOY / settings, tmp_path)
    found, _ = dagster_instance_config(str(home))
    assert found["freshness"] == {"enabled": True}
    runs = found["concurrency"]["runs"]
    (limit,) = runs["tag_concurrency_limits"]
    assert limit["key"] == CATALOG_TAG
    assert limit["value"] == {"applyLimitPerUniqueValue": True}
    assert limit["limit"] < runs["max_concurrent_runs"], "one catalog must not take all places"
    assert found["concurrency"]["pools"]["granularity"] == "run"
    ref = InstanceRef.from_dir(str(home))
    assert ref.event_storage_data.class_name == "PostgresEventLogStorage"
    storage = yaml.safe_load(ref.event_storage_data.config_yaml)
    assert storage["postgres_db"]["password"] == {"env": "DAGSTER_PG_PASSWORD"}


def test_production_runs_on_ecs_and_keeps_logs_in_a_bucket(tmp_path: Path) -> None:
    found, _ = dagster_instance_config(str(home_of(DEPLOY / "dagster.yaml", tmp_path)))
    ref = InstanceRef.from_dir(str(tmp_path))
    assert ref.run_launcher_data is not None
    assert ref.run_launcher_data.class_name == "EcsRunLauncher"
    assert type(ref.compute_log_manager).__name__ == "S3ComputeLogManager"
    assert found["run_monitoring"]["enabled"]
    assert found["run_monitoring"]["start_timeout_seconds"] > 600
    assert found["run_retries"]["enabled"]


def test_no_file_names_a_registry_or_holds_a_secret() -> None:
    for path in [each for each in DEPLOY.rglob("*") if each.is_file()]:
        text = path.read_text()
        assert not re.search(r"(?:docker|ghcr|quay|nvcr|gcr|amazonaws)\.(?:io|com)\b", text)
        assert not re.search(r"(?i)(?:password|secret_access_key)\s*[:=]\s*[\"']?\w{6,}\s*$", text)


def test_the_store_is_a_place_in_a_bucket_wherever_photos_are_made() -> None:
    tasks = json.loads((DEPLOY / "ecs" / "task-definitions.json").read_text())
    stores = {
        pair["value"]
        for task in tasks
        for container in task["containerDefinitions"]
        for pair in container["environment"]
        if pair["name"] == "IMGFLOW_STORE"
    }
    values = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    stores |= {each["value"] for each in deployment["env"] if each["name"] == "IMGFLOW_STORE"}
    assert {Place.parse(each).bucket for each in stores} == {"imgflow-store"}
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    for name in ("code", "webserver", "daemon"):
        environment = compose["services"][name]["environment"]
        # None: what the variable is where compose is started, and not set where it is not.
        assert environment["IMGFLOW_STORE"] is None
        assert environment["AWS_SECRET_ACCESS_KEY"] is None


class _Metadata(BaseHTTPRequestHandler):
    """What the ECS agent tells a task of itself."""

    answers: dict[str, Any] = {}

    def do_GET(self) -> None:
        body = json.dumps(self.answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def metadata(answers: dict[str, Any]) -> Iterator[str]:
    _Metadata.answers = answers
    with ThreadingHTTPServer(("127.0.0.1", 0), _Metadata) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@dg.op
def nothing() -> None:
    pass


@dg.job
def small() -> None:
    nothing()


def test_a_run_becomes_a_task_with_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    definitions = json.loads((DEPLOY / "ecs" / "task-definitions.json").read_text())
    with mock_aws():
        ecs, ec2 = boto3.client("ecs", REGION), boto3.client("ec2", REGION)
        subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
        cluster = ecs.create_cluster(clusterName="imgflow")["cluster"]["clusterArn"]
        for each in definitions:
            ecs.register_task_definition(**each)
        network = {"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": [group]}}
        (daemon,) = ecs.run_task(
            cluster=cluster,
            taskDefinition="imgflow-daemon",
            launchType="FARGATE",
            networkConfiguration=network,
        )["tasks"]
        about = {"Cluster": cluster, "TaskARN": daemon["taskArn"], "Name": "daemon"}
        with metadata({"/task": about, "/": about}) as address:
            monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", address)
            settings = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())["run_launcher"]
            overrides = {"run_launcher": settings}
            with dg.DagsterInstance.local_temp(str(tmp_path), overrides=overrides) as instance:
                launcher = instance.run_launcher
                assert isinstance(launcher, EcsRunLauncher)
                asked: dict[str, Any] = {}

                def run_task(**given: Any) -> Any:
                    asked.update(given)
                    # moto knows no capacity providers for tasks in a VPC.
                    given.pop("capacityProviderStrategy")
                    return ecs.run_task(**given, launchType="FARGATE")

                monkeypatch.setattr(launcher, "_run_task", lambda **given: _first(run_task, given))
                run = instance.create_run_for_job(
                    small,
                    tags={CATALOG_TAG: "shoes"},
                    job_code_origin=dg.reconstructable(small).get_python_origin(),
                )
                launcher.launch_run(LaunchRunContext(run, None))
                task_arn = instance.get_run_by_id(run.run_id).tags["ecs/task_arn"]  # type: ignore[union-attr]
            (task,) = ecs.describe_tasks(cluster=cluster, tasks=[task_arn])["tasks"]
        assert asked["capacityProviderStrategy"][0]["capacityProvider"] == "imgflow-gpu"
        (container,) = asked["overrides"]["containerOverrides"]
        assert container["name"] == "run"
        assert container["cpu"] == 4096
        assert container["memory"] == 16384
        assert container["command"][:3] == ["dagster", "api", "execute_run"]
        assert {"key": CATALOG_TAG, "value": "shoes"} in asked["tags"]
        used = ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])
        (made,) = used["taskDefinition"]["containerDefinitions"]
        assert used["taskDefinition"]["family"] == "imgflow-run"
        assert made["resourceRequirements"] == [{"type": "GPU", "value": "1"}]
        assert made["user"] == "10001"
        assert {each["name"] for each in made["secrets"]} >= {"DAGSTER_PG_PASSWORD"}
        assert not made.get("entryPoint")


def _first(run_task: Any, given: dict[str, Any]) -> Any:
    return run_task(**given)["tasks"][0]


def test_kubernetes_values_are_what_the_launcher_takes() -> None:
    values = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    names = {"containerConfig": "container_config", "podSpecConfig": "pod_spec_config",
             "jobSpecConfig": "job_spec_config"}  # fmt: skip
    config = {names[name]: each for name, each in launcher["runK8sConfig"].items()}
    context = K8sContainerContext.create_from_config({"k8s": {"run_k8s_config": config}})
    found = context.run_k8s_config
    gpu = found.container_config["resources"]["limits"]["nvidia.com/gpu"]
    assert gpu == "1"
    assert found.pod_spec_config["security_context"]["run_as_non_root"]
    assert set(launcher) - {"runK8sConfig"} <= {
        "imagePullPolicy", "loadInclusterConfig", "envSecrets",
    }  # fmt: skip
    asked = {
        "service_account_name": "dagster",
        "instance_config_map": "dagster-instance",
        "dagster_home": "/opt/dagster",
        "image_pull_policy": launcher["imagePullPolicy"],
        "load_incluster_config": launcher["loadInclusterConfig"],
        "env_secrets": [each["name"] for each in launcher["envSecrets"]],
        "run_k8s_config": config,
    }
    checked = process_config(K8sRunLauncher.config_type(), asked)
    assert checked.success, checked.errors
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    server = {
        name: deployment[key]
        for key, name in (("volumes", "volumes"), ("volumeMounts", "volume_mounts"),
                          ("resources", "resources"))
    }  # fmt: skip
    K8sContainerContext.create_from_config({"k8s": server})
    assert deployment["podSecurityContext"]["runAsNonRoot"]


def test_kubernetes_has_the_limits_of_the_other_deployment(tmp_path: Path) -> None:
    values = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
    given = values["concurrency"]
    written = {
        "concurrency": {
            "runs": {
                "max_concurrent_runs": given["runs"]["maxConcurrentRuns"],
                "tag_concurrency_limits": given["runs"]["tagConcurrencyLimits"],
            },
            "pools": {
                "granularity": given["pools"]["granularity"],
                "default_limit": given["pools"]["defaultLimit"],
            },
        }
    }
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(written))
    ours, _ = dagster_instance_config(str(tmp_path))
    theirs = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    assert ours["concurrency"] == theirs["concurrency"]


def test_compose_starts_what_the_image_has() -> None:
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"postgres", "code", "webserver", "daemon"}
    for name in ("code", "webserver", "daemon"):
        assert services[name]["command"] == ["imgflow", "serve", name]
        assert set(services[name]["depends_on"]) <= set(services)
        assert services[name]["cap_drop"] == ["ALL"]
    assert services["webserver"]["ports"] == ["127.0.0.1:3000:3000"], "its UI has no login"
    for service in services.values():
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / "compose" / source).is_file()


def test_the_image_is_slim_and_nobody_is_root_in_it() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    stages = [line.split(" AS ")[1] for line in lines if line.startswith("FROM ")]
    assert stages == ["build", "build-cpu", "base", "cpu", "cuda"]
    assert any(line == "ARG PYTHON=3.12-slim" for line in lines)
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["imgflow"]
    assert 'CMD ["imgflow", "serve", "code"]' in lines
    assert not any(line.startswith("ENTRYPOINT") for line in lines), "launchers bring a command"
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            *sources, _ = [part for part in line.split()[1:] if not part.startswith("--")]
            for source in sources:
                assert (DEPLOY.parent / source).exists(), source


def test_a_service_without_dagsters_settings_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from imgflow.serve import serve

    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(ImgflowError) as raised:
        serve("code", "127.0.0.1", 4000, tmp_path / "workspace.yaml")
    assert raised.value.code == "no_dagster_home"
    with pytest.raises(ImgflowError) as raised:
        command("daemon", "", 0, tmp_path / "workspace.yaml")
    assert raised.value.code == "no_workspace"


def test_the_images_command_answers_as_a_plain_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (tmp_path / "data").mkdir()
    environment = {
        **os.environ, "DAGSTER_HOME": str(home), "IMGFLOW_HOME": str(tmp_path / "data"),
    }  # fmt: skip
    # As a script's background job: Dagster's server would take no notice of SIGTERM then.
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "from imgflow.cli import main; main()"
    )
    options = ["serve", "code", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        [sys.executable, "-c", start, *options], env=environment, cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        from dagster._grpc.client import DagsterGrpcClient

        client = DagsterGrpcClient(port=port, host="127.0.0.1")
        deadline = time.monotonic() + 300  # of a machine with much else to do
        while client.health_check_query() != "SERVING":
            assert server.poll() is None, "the code server has ended"
            assert time.monotonic() < deadline
            time.sleep(0.5)
        monkeypatch.setenv("IMGFLOW_CODE_HOST", "127.0.0.1")
        listed = client.list_repositories()
        assert "__repository__" in str(listed)
        server.terminate()
        server.wait(180)  # Dagster gives calls that are under way a minute, twice
    finally:
        if server.poll() is None:
            server.kill()
            server.wait(30)
