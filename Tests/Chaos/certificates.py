"""Certificates of a cluster in places of their own, so that they can be replaced under running members, and the faults
that do so."""

import contextlib
import shutil
import socket
import ssl
import time

import grpc

import shared
from faults import fault
from harness import PKI, wait_until

SHOWN_SECONDS = 10.0
CONNECTION_SECONDS = 10.0
OPERATOR = "operator"


class Certificates:
    """One authority (two while it is replaced) and a certificate for each slot, beside the operator's."""

    def __init__(self, space, hosts):
        self.space, self.hosts = space, hosts       # hosts: slot → names in its certificate
        self.folder = space / "tls"
        self.folder.mkdir()
        self.trusted = self.folder / "trusted.crt"
        self._issued = 0
        self.authority = self.new_authority()
        self.trust([self.authority])
        for name in [OPERATOR, *self.slots]:
            self.renew(name)

    @property
    def slots(self):
        return [f"slot{slot}" for slot in self.hosts]

    def new_authority(self):
        self._issued += 1
        return PKI(self.space / f"pki{self._issued}")

    def certificate(self, name):
        return self.folder / f"{name}.crt"

    def key(self, name):
        return self.folder / f"{name}.key"

    def flags(self, slot):
        certificate, key = self.certificate(f"slot{slot}"), self.key(f"slot{slot}")
        return [
            "--cert-file", certificate, "--key-file", key, "--trusted-ca-file", self.trusted, "--client-cert-auth",
            "--peer-cert-file", certificate, "--peer-key-file", key, "--peer-trusted-ca-file", self.trusted,
            "--peer-client-cert-auth"]

    def trust(self, authorities):
        self._put(self.trusted, b"".join(authority.authority.read_bytes() for authority in authorities))
        self._make_credentials()

    def renew(self, name):
        """A new certificate and key, put in place of the old ones."""
        self._issued += 1
        out = self.space / f"issued-{self._issued}"
        out.mkdir()
        slot = next((slot for slot in self.hosts if f"slot{slot}" == name), None)
        uses = ["--client"] if slot is None else ["--server", "--client"]
        hosts = [argument for host in self.hosts.get(slot, ()) for argument in ("--host", host)]
        self.authority.make("issue", "--name", name, "--out", out, *uses, *hosts)
        for path in (self.key(name), self.certificate(name)):
            self._put(path, (out / path.name).read_bytes())
        shutil.rmtree(out)
        self._make_credentials()

    @staticmethod
    def _put(path, content):
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.rename(path)

    def _make_credentials(self):
        """For connections to be made; those that are there keep theirs."""
        with contextlib.suppress(FileNotFoundError):
            self.credentials = grpc.ssl_channel_credentials(
                *(path.read_bytes() for path in (self.trusted, self.key(OPERATOR), self.certificate(OPERATOR))))

    def shown_by(self, member):
        """The certificate that a new connection is shown, in PEM."""
        with self._connection(member, self.certificate(OPERATOR), self.key(OPERATOR)) as connection:
            return ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True))

    @contextlib.contextmanager
    def _connection(self, member, certificate=None, key=None):
        context = ssl.create_default_context(cafile=str(self.trusted))
        if certificate:
            context.load_cert_chain(certificate, key)
        place = member.place
        with socket.create_connection((place.host, place.client_port), CONNECTION_SECONDS) as plain:
            with context.wrap_socket(plain, server_hostname=place.host) as connection:
                yield connection

    def lets_in(self, member, certificate=None, key=None):
        """Whether a client with this certificate is answered."""
        try:
            with self._connection(member, certificate, key) as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: m\r\n\r\n")
                return bool(connection.recv(1))
        except TimeoutError:
            raise AssertionError(f"{member} neither answers nor refuses a client within {CONNECTION_SECONDS:g} s")
        except OSError:
            return False

    def is_shown_by(self, member):
        try:
            shown = self.shown_by(member)
        except OSError:
            return False
        return shown.split() == self.certificate(f"slot{member.slot}").read_text().split()


# ---- Faults ----------------------------------------------------------------------------------------------------------

def _restart_in_turn(chaos):
    """As an operator does it: one after the other, each waited for."""
    for member in chaos.cluster.members:
        member.terminate()
        member.start()
        chaos.wait_until_served(member)


def _take_effect(chaos):
    """New connections are shown the new certificates: by themselves, or after a restart where there is no other way."""
    if not chaos.profile.reloads_certificates:
        _restart_in_turn(chaos)
    for member in chaos.cluster.members:
        wait_until(
            lambda: chaos.cluster.pki.is_shown_by(member), f"the new certificate of {member}", SHOWN_SECONDS, 0.1)


@fault("rotate-certificates", hold=(0.5, 2.0), needs="tls")
def rotate_certificates(chaos, random):
    """New certificates and keys of the same authority, put in place while members and clients are at work."""
    pki = chaos.cluster.pki
    for name in [OPERATOR, *pki.slots]:
        pki.renew(name)
        time.sleep(random.uniform(0, 0.1))
    yield "new certificates lie there"
    _take_effect(chaos)


@fault("rotate-authority", hold=(0.1, 0.5), needs="tls", weight=0.5)
def rotate_authority(chaos, random):
    """A new authority: first trusted beside the old one, then all certificates are its own, then it is the only one.
    Trust is read when a member starts, as etcd does it: a restart in turn after each step."""
    pki = chaos.cluster.pki
    old, pki.authority = pki.authority, pki.new_authority()
    pki.trust([old, pki.authority])
    _restart_in_turn(chaos)
    for name in [OPERATOR, *pki.slots]:
        pki.renew(name)
    _take_effect(chaos)
    pki.trust([pki.authority])
    _restart_in_turn(chaos)
    yield "a new authority has taken over"


@fault("strangers", hold=(0.1, 0.5), needs="tls")
def strangers(chaos, random):
    """Clients of another authority, and clients with no certificate at all, are refused."""
    pki, member = chaos.cluster.pki, random.choice(chaos.cluster.members)
    other = pki.new_authority()
    for certificate, key in ((None, None), (other.certificate(OPERATOR), other.key(OPERATOR))):
        if pki.lets_in(member, certificate, key):
            raise AssertionError(f"{member} lets a stranger in who shows {certificate}")
    if not pki.lets_in(member, pki.certificate(OPERATOR), pki.key(OPERATOR)):
        raise AssertionError(f"{member} refuses the operator")
    yield f"{member} refused strangers"
