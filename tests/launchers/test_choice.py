"""Promise: a launcher is found by its name, on the command line and in files; what is wrong with
its settings is said before anything is started.
"""

from __future__ import annotations

import pytest

from headway import launchers
from headway.errors import StartError
from headway.launchers import batch
from headway.launchers.choice import LAUNCHERS, from_file, make

NEEDS = {
    "ssh": {"hosts": ["node1"]},
    "kubernetes": {"image": "headway"},
    "aws": {"image_id": "ami-1", "key_name": "key"},
    "googlecloud": {
        "project_id": "p", "key_file": "k", "region": "r", "os_project": "o", "os_family": "f",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", LAUNCHERS)
def test_each_is_made_by_its_name(name: str):
    launcher = make(name, NEEDS.get(name, {}))

    assert launcher.name == name
    assert type(launcher).__doc__
    launcher.close()  # nothing was started


def test_a_name_that_is_none_is_met_with_a_guess():
    with pytest.raises(ValueError, match=r"'slrum' is no launcher: .*did you mean 'slurm'\?"):
        make("slrum", {})


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("local", {"account": "me"}, "local has no account: it has per_node, walltime"),
        ("ssh", {}, "hosts"),
        ("ssh", {"hosts": "node1"}, "give a list"),
        ("ssh", {"hosts": ["-oProxyCommand=x"]}, "is no host"),
        ("ipyparallel", {"targets": "0, one"}, "expected ids of IPython engines"),
        ("ipyparallel", {"cluster": "a.json", "profile": "b"}, "leave out profile"),
        ("ipyparallel", {"cluster": 1}, "neither a Client nor a Cluster"),
        ("ipyparallel", {"per_engine": 0}, "expected 1 to"),
        ("slurm", {"walltime": "long"}, "walltime='long' is no duration"),
        ("slurm", {"nodes": 0}, "nodes=0"),
        ("sge", {"account": "me"}, "sge has no account='me'"),
        ("kubernetes", {"walltime": "1h"}, "kubernetes has no walltime"),
    ],
)
def test_a_wrong_setting_is_said(name: str, settings: dict, text: str):
    with pytest.raises(ValueError, match=text):
        make(name, settings)


def test_a_file_describes_one_and_the_command_line_goes_before_it(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text('[launcher]\nname = "slurm"\nnodes = 2\nper_node = 8\nwalltime = "1h"\n')

    launcher = from_file(path, {"per_node": 4})

    assert isinstance(launcher, launchers.Slurm)
    assert (launcher.nodes, launcher.crew.engines) == (2, 4)
    assert launcher.crew.lifetime_s == 3_570.0


@pytest.mark.parametrize("text", ["", "launcher = 1", "[launcher]\nnodes = 1", "[launcher"])
def test_a_file_that_describes_none_is_refused(tmp_path, text: str):
    path = tmp_path / "site.toml"
    path.write_text(text)

    with pytest.raises(ValueError, match=r"site\.toml"):
        from_file(path)


#: Those of which Parsl's provider needs nothing but Parsl itself.
@pytest.mark.parametrize(
    "kind", [launchers.Slurm, launchers.PBS, launchers.LSF, launchers.SGE, launchers.HTCondor]
)
def test_what_we_say_is_what_the_provider_of_parsl_takes(kind, tmp_path):
    pytest.importorskip("parsl")
    words = {word: word for word in ("account", "queue", "setup", "options") if word in kind.words}
    launcher = kind(nodes=2, per_node=4, walltime="2h", directory=tmp_path, **words)

    provider = launcher._provider()

    assert provider.walltime == "02:00:00"
    assert provider.nodes_per_block == 2
    for word in words:
        assert word in str(getattr(provider, kind.words[word]))


def test_a_setting_that_the_provider_does_not_take_is_said(tmp_path):
    pytest.importorskip("parsl")
    launcher = launchers.Slurm(directory=tmp_path, colour="red")

    with pytest.raises(StartError, match=r"SlurmProvider of Parsl: .*colour"):
        launcher._provider()


def test_without_parsl_the_error_says_what_to_install(monkeypatch):
    def missing(name: str):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(batch, "import_module", missing)

    with pytest.raises(StartError, match=r"pip install 'headway\[hpc\]'"):
        launchers.Slurm()._provider()
