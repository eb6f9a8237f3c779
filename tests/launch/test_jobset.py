"""launch/jobset.yaml: filled in, it is a JobSet that fails on 2 and restarts on all else."""

import re

import yaml
from jax._src.clusters import cloud_tpu_cluster

from tests.launch.conftest import LAUNCH

TEXT = (LAUNCH / "jobset.yaml").read_text()
FILLED = {
    "NAME": "run-1",
    "SLICES": "2",
    "HOSTS": "4",
    "SERVICE_ACCOUNT": "trainer",
    "ACCELERATOR": "tpu-v5-lite-podslice",
    "TOPOLOGY": "4x4",
    "IMAGE": "registry/rbs:1",
    "BUCKET": "bucket",
    "CONFIG": "configs/llama32_1b.py",
    "CHIPS_OF_A_HOST": "4",
}


def job():
    """The manifest with every placeholder filled, and the Job of a slice in it."""
    manifest = yaml.safe_load(re.sub(r"<(\w+)>", lambda found: FILLED[found[1]], TEXT))
    (slices,) = manifest["spec"]["replicatedJobs"]
    return manifest, slices, slices["template"]["spec"]


def test_every_placeholder_is_known_and_none_is_left():
    assert set(re.findall(r"<(\w+)>", TEXT)) == set(FILLED)
    manifest, slices, spec = job()
    assert manifest["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert manifest["kind"] == "JobSet"
    assert slices["replicas"] == 2
    assert spec["parallelism"] == spec["completions"] == 4, "as many at once as there are hosts"
    assert spec["completionMode"] == "Indexed"


def test_a_mistake_fails_the_set_and_all_else_restarts_it():
    manifest, _, spec = job()
    policy = manifest["spec"]["failurePolicy"]
    assert policy["maxRestarts"] >= 10
    assert [(rule["action"], rule["onJobFailureReasons"]) for rule in policy["rules"]] == [
        ("FailJobSet", ["PodFailurePolicy"])
    ]
    (rule,) = spec["podFailurePolicy"]["rules"]
    (container,) = spec["template"]["spec"]["containers"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"] == {
        "containerName": container["name"],
        "operator": "In",
        "values": [2],
    }
    assert spec["backoffLimit"] == 0, "no host starts again alone"
    assert spec["template"]["spec"]["restartPolicy"] == "Never", "else Kubernetes refuses the rule"


def test_a_host_runs_tpu_py_itself_with_chips_and_ports():
    pod = job()[2]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["python", "launch/tpu.py"], "a shell would keep SIGTERM"
    assert container["args"][1:] == [
        *("train", "configs/llama32_1b.py", "--out=gs://bucket/runs/run-1")
    ]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    ports = {port["containerPort"] for port in container["ports"]}
    assert int(cloud_tpu_cluster.coordinator_port) in ports
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x4"
