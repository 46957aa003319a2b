"""After `uninstall-units` the machine is as it was, but for the data. The last test of the machine."""

from installed import ARCHIVES, Service


def test_uninstalling_leaves_the_tree_as_it_was(service: Service) -> None:
    machine = service.machine
    service.ctl("archive", "wait", "t7/fasta")
    shown = machine.run("refgenied", "uninstall-units", "--dry-run").out
    assert machine.show("ActiveState") == "active", "a dry run changes nothing"
    machine.run("gpasswd", "-d", "alice", "refgenie")
    said = machine.run("refgenied", "uninstall-units").out
    assert [line for line in said.splitlines() if "belong to root" not in line] == shown.splitlines()
    assert machine.run("systemctl", "is-active", "refgenied.service", "refgenied.socket", check=False).code != 0
    assert list(machine.file(ARCHIVES).rglob("*.tgz")), "the data stay"
    assert {path.stat().st_uid for path in machine.file(ARCHIVES).rglob("*")} == {0}
    after = service.tree()
    changed = {
        name: (service.before.get(name), after.get(name))
        for name in {*service.before, *after}
        if service.before.get(name) != after.get(name)
    }
    assert not changed
