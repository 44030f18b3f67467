"""Promise: what docs/deploy has to be copied is whole, and its commands are headway's own."""

from __future__ import annotations

import configparser
import json
import re
import shlex

import pytest
import yaml
from typer.testing import CliRunner

from headway.cli import main
from tests.house.source import ROOT

DEPLOY = ROOT / "docs" / "deploy"
MANIFEST = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
WORKLOADS = [each for each in MANIFEST if each["kind"] in ("Deployment", "StatefulSet")]


def check_options(arguments: list[str]) -> None:
    """The verb is one, and has all of these options."""
    verb, *rest = arguments
    said = CliRunner().invoke(main.app, [verb, "--help"], env={"COLUMNS": "200"})
    assert said.exit_code == 0, said.output
    for option in (each.partition("=")[0] for each in rest if each.startswith("-")):
        assert re.search(rf"{option}\b", said.output), f"headway {verb} has no {option}"


def test_the_manifest_has_what_kubernetes_wants_of_each_object():
    kinds = [each["kind"] for each in MANIFEST]
    assert sorted(kinds) == ["Deployment", "PersistentVolumeClaim", "PersistentVolumeClaim",
                             "Service", "Service", "StatefulSet"]  # fmt: skip
    for each in MANIFEST:
        wanted = "apps/v1" if each in WORKLOADS else "v1"
        assert each["apiVersion"] == wanted
        assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", each["metadata"]["name"])
        assert each["spec"]
    for claim in (each for each in MANIFEST if each["kind"] == "PersistentVolumeClaim"):
        assert claim["spec"]["accessModes"]
        assert claim["spec"]["resources"]["requests"]["storage"]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda each: each["kind"])
def test_each_workload_selects_its_own_pods_and_mounts_what_is_there(workload):
    spec, template = workload["spec"], workload["spec"]["template"]
    assert spec["selector"]["matchLabels"] == template["metadata"]["labels"]
    claims = {each["metadata"]["name"] for each in MANIFEST}
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    for volume in volumes.values():
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in claims
    [container] = template["spec"]["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
    check_options(container["args"])


def test_the_controller_is_alone_on_its_journal_and_engines_have_the_time_to_drain():
    deployment, stateful = WORKLOADS
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]["type"]) == (
        1,
        "Recreate",
    )
    services = [each for each in MANIFEST if each["kind"] == "Service"]
    headless = [each for each in services if each["spec"].get("clusterIP") == "None"]
    assert stateful["spec"]["serviceName"] == headless[0]["metadata"]["name"]
    pod = stateful["spec"]["template"]["spec"]
    [drain] = [a for a in pod["containers"][0]["args"] if a.startswith("--drain=")]
    assert pod["terminationGracePeriodSeconds"] > float(drain.partition("=")[2])


@pytest.mark.parametrize("name", ["headway-controller.service", "headway-engines.service"])
def test_a_unit_of_systemd_has_its_sections_and_stops_by_the_nanny(name):
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string((DEPLOY / name).read_text().replace("\\\n", " "))

    assert unit.sections() == ["Unit", "Service", "Install"]
    service = unit["Service"]
    assert service["KillMode"] == "mixed"
    program, *arguments = shlex.split(service["ExecStart"])
    assert program.endswith("/headway")
    check_options(arguments)
    if "--drain" in arguments:
        drain = float(arguments[arguments.index("--drain") + 1])
        assert float(service["TimeoutStopSec"]) > drain


def test_the_image_starts_headway_without_a_shell_and_not_as_root():
    lines = [line.split(maxsplit=1) for line in (DEPLOY / "Dockerfile").read_text().splitlines()]
    told = {line[0]: line[1] for line in lines if line and line[0].isupper()}

    assert json.loads(told["ENTRYPOINT"]) == ["headway"]
    assert told["USER"] == "headway"
    assert {"FROM", "COPY", "RUN", "CMD"} <= told.keys()
