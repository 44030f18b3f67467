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
from headway.dashboard.metrics import HISTOGRAM, METRICS
from headway.dashboard.probes import HEALTH_PATH
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
    containers = template["spec"]["containers"]
    mounted = {mount["name"] for each in containers for mount in each["volumeMounts"]}
    assert mounted == volumes.keys()
    for container in containers:
        check_options(container["args"])


def test_the_controllers_probes_ask_what_is_there():
    [controller, metrics] = WORKLOADS[0]["spec"]["template"]["spec"]["containers"]
    [port] = [each["containerPort"] for each in metrics["ports"]]
    assert f"--listen=0.0.0.0:{port}" in metrics["args"]
    assert controller["readinessProbe"]["httpGet"] == {"path": HEALTH_PATH, "port": port}
    program, *arguments = controller["livenessProbe"]["exec"]["command"]
    assert program == "headway"
    check_options(arguments)
    assert f"--cluster={controller['args'][3].partition('=')[2]}" in arguments
    [timeout] = [each.partition("=")[2] for each in arguments if "--timeout" in each]
    assert controller["livenessProbe"]["timeoutSeconds"] > float(timeout)
    annotations = WORKLOADS[0]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port)


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


@pytest.mark.parametrize("name", sorted(path.name for path in DEPLOY.glob("*.service")))
def test_a_unit_of_systemd_has_its_sections_and_stops_by_the_nanny(name):
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string((DEPLOY / name).read_text().replace("\\\n", " "))

    assert unit.sections() == ["Unit", "Service", "Install"]
    service = unit["Service"]
    assert service["KillMode"] == "mixed"
    for command in ("ExecStartPost", "ExecStart"):
        program, *arguments = shlex.split(service.get(command, "/headway --version"))
        assert program.endswith("/headway")
        if arguments != ["--version"]:
            check_options(arguments)
        if "--timeout" in arguments:
            timeout = float(arguments[arguments.index("--timeout") + 1])
            assert float(service["TimeoutStartSec"]) > timeout
    if "--drain" in arguments:
        drain = float(arguments[arguments.index("--drain") + 1])
        assert float(service["TimeoutStopSec"]) > drain


def test_the_image_starts_headway_without_a_shell_and_not_as_root():
    lines = [line.split(maxsplit=1) for line in (DEPLOY / "Dockerfile").read_text().splitlines()]
    told = {line[0]: line[1] for line in lines if line and line[0].isupper()}

    assert json.loads(told["ENTRYPOINT"]) == ["headway"]
    assert told["USER"] == "headway"
    assert {"FROM", "COPY", "RUN", "CMD"} <= told.keys()


def test_the_grafana_dashboard_asks_for_metrics_and_labels_that_there_are():
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    labels = {each.name: {*each.labels, "job", "instance"} for each in METRICS}
    for metric in METRICS:
        if metric.kind == HISTOGRAM:
            labels[f"{metric.name}_bucket"] = labels[metric.name] | {"le"}
    panels, variables = dashboard["panels"], dashboard["templating"]["list"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    queries += [each["query"] for each in variables if each["type"] == "query"]
    assert len(queries) > len(panels)
    for query in queries:
        named = re.findall(r"(headway_\w+)(?:\{([^}]*)\})?", query)
        assert named, query
        for name, chosen in named:
            assert name in labels, f"{query}: there is no metric {name}"
            assert set(re.findall(r"(\w+)=", chosen)) <= labels[name], query
    legends = [target["legendFormat"] for panel in panels for target in panel["targets"]]
    for query, legend in zip(queries, legends, strict=False):
        [name] = re.findall(r"headway_\w+", query)
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels[name], legend
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_queries_in_the_docs_name_metrics_that_there_are():
    page = (DEPLOY.parent / "monitoring.md").read_text()
    named = set(re.findall(r"headway_\w+", page))
    assert len(named) >= 6
    assert named <= {each.name for each in METRICS}
