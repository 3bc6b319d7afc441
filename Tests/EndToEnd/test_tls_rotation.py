"""Certificates, keys, authorities and revocation lists are replaced while clients and members are connected."""

import shutil
import subprocess
import time
import unittest

from certificates import Forge, handshake, replace, served_serial, serial
from cluster import Cluster, Member
from harness import PKI, Background, Node, Workspace, run, wait_until

# Files are looked at twice a second, and a change counts at the second look.
SOON = 5


class Watcher(Background):
    """An etcdctl that watches one key. Its connection is the one that stands."""

    def __init__(self, space, name, node, identity, authority):
        super().__init__(
            space, f"watch-{name}",
            ["env", "ETCDCTL_API=3", "etcdctl", "--endpoints", node.endpoint, "--cacert", authority, "--cert",
             identity[0], "--key", identity[1], "watch", "key"])
        space.own(self)
        self.node = node

    def has_seen(self, value):
        return value in self.text().split()


class Rotation(unittest.TestCase):
    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)
        self.pki = PKI(self.space / "pki")
        self.operator = (self.pki.certificate("operator"), self.pki.key("operator"))
        # What the node uses lies in a folder of its own.
        self.folder = self.space / "live"
        self.folder.mkdir()
        self.paths = {name: self.folder / name for name in ("crt", "key", "ca", "crl")}
        self.pki.make("revoke")
        for name, source in (
                ("crt", self.pki.certificate("node")), ("key", self.pki.key("node")), ("ca", self.pki.authority),
                ("crl", self.pki.folder / "ca.crl")):
            shutil.copyfile(source, self.paths[name])

    def start(self, *extra, crl=False):
        flags = ["--cert-file", self.paths["crt"], "--key-file", self.paths["key"], "--trusted-ca-file",
                 self.paths["ca"], *extra]
        if crl:
            flags += ["--client-crl-file", self.paths["crl"]]
        self.node = self.space.own(Node(self.space, self.pki, name="n", extra=flags).start())
        return self.node

    def watch(self, name, identity):
        watcher = Watcher(self.space, name, self.node, identity, self.pki.authority)

        def established():
            self.put(f"hello-{name}")
            return watcher.has_seen(f"hello-{name}")

        wait_until(established, f"the first event of {name}", 10, 0.1)
        return watcher

    def put(self, value):
        result = self.node.etcdctl("put", "key", value)
        self.assertEqual(result.stdout, "OK\n", result.stderr)

    def log(self):
        return self.node.log.read_text()

    def lines(self, words):
        return [line for line in self.log().splitlines() if words in line]

    def issue(self, name):
        self.pki.make("issue", "--name", name, "--server", "--client", "--host", "127.0.0.1")
        return self.pki.certificate(name), self.pki.key(name)

    def shows(self, certificate):
        return served_serial(self.node.port, self.operator) == serial(certificate)

    def test_certificate_and_key(self):
        self.start()
        watcher = self.watch("standing", self.operator)
        certificate, key = self.issue("second")
        replace(self.paths["crt"], certificate)
        # The pair is half replaced: nothing happens, and nobody complains.
        before = serial(self.pki.certificate("node"))
        self.let_it_look(3)
        self.assertEqual(served_serial(self.node.port, self.operator), before)
        self.assertEqual(self.lines("cannot be used"), [])
        replace(self.paths["key"], key)
        wait_until(lambda: self.shows(certificate), "the new certificate", SOON)
        self.put("after")
        wait_until(lambda: watcher.has_seen("after"), "an event on the connection that stood", 5)
        self.assertEqual(len(self.lines("changed TLS files are in use")), 1)

        # Written in place, key first.
        certificate, key = self.issue("third")
        shutil.copyfile(key, self.paths["key"])
        shutil.copyfile(certificate, self.paths["crt"])
        wait_until(lambda: self.shows(certificate), "the third certificate", SOON)

        # A broken file: one line, the old certificate, and the next good one is taken.
        self.paths["crt"].write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
        wait_until(lambda: self.lines("cannot be used"), "a line about the broken file", SOON)
        self.let_it_look(4)
        self.assertEqual(len(self.lines("cannot be used")), 1)
        self.assertIn("crt", self.lines("cannot be used")[0])
        self.assertTrue(self.shows(certificate))
        certificate, key = self.issue("fourth")
        replace(self.paths["key"], key)
        replace(self.paths["crt"], certificate)
        wait_until(lambda: self.shows(certificate), "the fourth certificate", SOON)
        self.assertEqual(len(self.lines("cannot be used")), 1)

    def let_it_look(self, times):
        """Lets the node look at its files so often: what must not happen cannot be waited for in another way."""
        time.sleep(0.5 * times + 0.3)

    def test_kubernetes_swaps_a_link(self):
        """A mounted secret: crt → ..data/crt, and ..data is a link that is renamed over."""
        second = self.issue("second")
        for number, (certificate, key) in enumerate(
                [(self.pki.certificate("node"), self.pki.key("node")), second]):
            folder = self.folder / f"..{number}"
            folder.mkdir()
            shutil.copyfile(certificate, folder / "crt")
            shutil.copyfile(key, folder / "key")
        (self.folder / "..data").symlink_to("..0")
        for name in ("crt", "key"):
            self.paths[name].unlink()
            self.paths[name].symlink_to(f"..data/{name}")
        self.start()
        (self.folder / "..next").symlink_to("..1")
        (self.folder / "..next").rename(self.folder / "..data")
        wait_until(lambda: self.shows(second[0]), "the certificate behind the new link", SOON)

    def test_authorities(self):
        """Old and new in one bundle, then the new one alone."""
        self.start()
        new = PKI(self.space / "new-pki")
        newcomer = (new.certificate("operator"), new.key("operator"))
        old = self.watch("old", self.operator)
        self.assertFalse(handshake(self.node.port, self.pki.authority, newcomer))
        bundle = self.space / "bundle"
        bundle.write_bytes(self.pki.authority.read_bytes() + new.authority.read_bytes())
        replace(self.paths["ca"], bundle)
        wait_until(lambda: handshake(self.node.port, self.pki.authority, newcomer), "that the new CA is trusted", SOON)
        self.assertTrue(handshake(self.node.port, self.pki.authority, self.operator))
        young = self.watch("young", newcomer)
        self.put("both")
        wait_until(lambda: old.has_seen("both") and young.has_seen("both"), "an event for both", 5)

        replace(self.paths["ca"], new.authority)
        wait_until(
            lambda: not handshake(self.node.port, self.pki.authority, self.operator), "the end of the old CA", SOON)
        wait_until(lambda: self.lines("is not trusted any more"), "the end of the old connection", SOON)
        flags = ["--endpoints", self.node.endpoint, "--cacert", self.pki.authority, "--cert", newcomer[0], "--key",
                 newcomer[1]]
        result = run("etcdctl", *flags, "put", "key", "alone", environment={"ETCDCTL_API": "3"})
        self.assertEqual(result.stdout, "OK\n", result.stderr)
        wait_until(lambda: young.has_seen("alone"), "an event for the new", 5)
        self.assertFalse(old.has_seen("alone"))
        self.assertFalse(self.lines("cannot be used"))

        self.paths["ca"].write_text("nothing\n")
        wait_until(lambda: self.lines("no certificate in it"), "a line about the broken bundle", SOON)
        self.assertTrue(handshake(self.node.port, self.pki.authority, newcomer), "what was loaded stays in force")

    def test_revocation(self):
        self.pki.make("issue", "--name", "mallory", "--client")
        mallory = (self.pki.certificate("mallory"), self.pki.key("mallory"))
        self.start(crl=True)
        good, bad = self.watch("good", self.operator), self.watch("bad", mallory)
        self.pki.make("revoke", "--cert", mallory[0])
        replace(self.paths["crl"], self.pki.folder / "ca.crl")
        wait_until(lambda: self.lines("is not trusted any more"), "the end of the revoked connection", SOON)
        self.assertIn("has been revoked", self.lines("is not trusted any more")[0])
        self.put("after")
        wait_until(lambda: good.has_seen("after"), "an event for who was not revoked", 5)
        self.assertFalse(bad.has_seen("after"))
        self.assertFalse(handshake(self.node.port, self.pki.authority, mallory))
        self.assertEqual(len(self.lines("is not trusted any more")), 1, "nobody else was cut off")
        result = run(
            "etcdctl", "--endpoints", self.node.endpoint, "--cacert", self.pki.authority, "--cert", mallory[0], "--key",
            mallory[1], "--dial-timeout=2s", "--command-timeout=2s", "get", "key", environment={"ETCDCTL_API": "3"})
        self.assertNotEqual(result.returncode, 0)

    def test_expiry_ends_no_connection(self):
        """As in etcd: who is in stays, and is refused when it comes back."""
        now = subprocess.run(["date", "-u", "-d", "+12 seconds", "+%Y%m%d%H%M%SZ"], capture_output=True, text=True,
                             check=True).stdout.strip()
        short = Forge(self.pki, self.space / "forge").issue("short", end=now)
        self.start(crl=True)
        watcher = self.watch("short", short)
        wait_until(
            lambda: not handshake(self.node.port, self.pki.authority, short), "the end of the certificate", 30, 0.5)
        self.put("still")
        wait_until(lambda: watcher.has_seen("still"), "an event after the end", 5)
        # Nor does a new list that does not speak of it.
        self.pki.make("issue", "--name", "other", "--client")
        self.pki.make("revoke", "--cert", self.pki.certificate("other"))
        replace(self.paths["crl"], self.pki.folder / "ca.crl")
        wait_until(lambda: self.lines("changed TLS files are in use"), "the new list", SOON)
        self.put("and still")
        wait_until(lambda: watcher.has_seen("and"), "an event after the new list", 5)


class OwnMember(Member):
    """A member with a certificate of its own, and a list of the revoked."""

    def peer_tls_flags(self):
        return [
            "--peer-cert-file", self.space / f"{self.name}.crt", "--peer-key-file", self.space / f"{self.name}.key",
            "--peer-client-cert-auth", "--peer-trusted-ca-file", self.space / "peer-ca", "--peer-crl-file",
            self.space / "peer-crl"]


class PeerRotation(unittest.TestCase):
    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)
        self.pki = PKI(self.space / "pki")
        self.pki.make("revoke")
        self.number = 0
        for name in ("m0", "m1", "m2"):
            self.give(name, self.pki)
        shutil.copyfile(self.pki.authority, self.space / "peer-ca")
        self.publish(self.pki)
        self.cluster = Cluster(self.space, self.pki, kind=OwnMember).start()
        self.assertEqual(self.cluster.etcdctl("put", "a", "1").stdout, "OK\n")

    def give(self, name, pki):
        """A new certificate for a member, in place of the old one. Returns it."""
        self.number += 1
        issued = f"{name}-{self.number}"
        pki.make("issue", "--name", issued, "--server", "--client", "--host", "127.0.0.1")
        replace(self.space / f"{name}.key", pki.key(issued))
        replace(self.space / f"{name}.crt", pki.certificate(issued))
        return pki.certificate(issued)

    def publish(self, *authorities):
        """The lists of these authorities come into force."""
        together = self.space / "lists"
        together.write_bytes(b"".join((pki.folder / "ca.crl").read_bytes() for pki in authorities))
        replace(self.space / "peer-crl", together)

    def test_a_revoked_member_is_cut_off_and_comes_back_with_a_new_certificate(self):
        victim = self.cluster["m2"]
        others = [self.cluster["m0"], self.cluster["m1"]]
        self.pki.make("revoke", "--cert", self.space / "m2.crt")
        self.publish(self.pki)
        for member in others:
            wait_until(
                lambda: "is not trusted any more" in member.log.read_text(), f"a cut by {member.name}", 10)
        wait_until(
            lambda: others[0].etcdctl("put", "a", "2", "--command-timeout=2s").stdout == "OK\n",
            "a write by the two others", 20)
        serializable = victim.etcdctl("get", "a", "--consistency=s", "--print-value-only").stdout
        self.assertEqual(serializable, "1\n", "the revoked member hears nothing any more")
        self.give("m2", self.pki)
        wait_until(
            lambda: victim.etcdctl("get", "a", "--consistency=s", "--print-value-only").stdout == "2\n",
            "the return of the member, without a restart", 20, 0.2)

    def test_a_new_authority_without_a_pause(self):
        new = PKI(self.space / "new-pki")
        new.make("revoke")
        bundle = self.space / "bundle"
        bundle.write_bytes(self.pki.authority.read_bytes() + new.authority.read_bytes())
        # In this order: the lists of both cover both authorities before either is asked for.
        self.publish(self.pki, new)
        replace(self.space / "peer-ca", bundle)
        newcomer = (new.certificate("node"), new.key("node"))
        for member in self.cluster.alive():
            wait_until(
                lambda: handshake(member.peer_port, self.pki.authority, newcomer), f"the bundle on {member.name}", 10)
        for member in self.cluster.alive():
            certificate = self.give(member.name, new)
            wait_until(
                lambda: served_serial(member.peer_port, newcomer) == serial(certificate),
                f"the new certificate of {member.name}", 10)
        self.assertEqual(self.cluster.etcdctl("put", "a", "2").stdout, "OK\n")
        # The new one alone: what stands by old certificates is cut, and comes back by new ones.
        self.publish(new)
        replace(self.space / "peer-ca", new.authority)
        wait_until(
            lambda: any("is not trusted any more" in member.log.read_text() for member in self.cluster.alive()),
            "the cut of a connection that stood by an old certificate", 10)
        old = (self.pki.certificate("node"), self.pki.key("node"))
        for member in self.cluster.alive():
            wait_until(
                lambda: not handshake(member.peer_port, new.authority, old), f"{member.name}'s end of the old CA", 10)
        wait_until(
            lambda: self.cluster.etcdctl("put", "a", "3", "--command-timeout=2s").stdout == "OK\n", "a write", 20)
        for member in self.cluster.alive():
            wait_until(
                lambda: member.etcdctl("get", "a", "--consistency=s", "--print-value-only").stdout == "3\n",
                f"the write on {member.name}", 20)


if __name__ == "__main__":
    unittest.main()
