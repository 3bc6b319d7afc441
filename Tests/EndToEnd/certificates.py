"""Certificates as nobody should make them: any dates, any purpose, any name, by any authority; and how a server takes
them."""

import shutil
import subprocess

from harness import run

PURPOSES = {"client": "clientAuth", "server": "serverAuth", "peer": "serverAuth,clientAuth"}


class Forge:
    """Signs with the authority of a `PKI` what `leasehold pki` refuses to sign."""

    def __init__(self, pki, folder):
        self.pki = pki
        self.folder = folder
        folder.mkdir()
        (folder / "index").write_text("")
        (folder / "index.attr").write_text("unique_subject = no\n")
        (folder / "serial").write_text("7777\n")

    def issue(self, name, purpose="client", subject=None, alternatives="", begin="20200101000000Z",
              end="20490101000000Z"):
        """The paths of certificate and key. `alternatives` as in OpenSSL's configuration: "IP:127.0.0.1,DNS:a"."""
        certificate, key, request = (self.folder / f"{name}.{ending}" for ending in ("crt", "key", "csr"))
        config = self.folder / f"{name}.conf"
        names = f"subjectAltName = {alternatives}\n" if alternatives else ""
        config.write_text(f"""
[ca]
default_ca = it
[it]
database = {self.folder}/index
serial = {self.folder}/serial
new_certs_dir = {self.folder}
default_md = sha256
policy = any
x509_extensions = extensions
[any]
commonName = supplied
[extensions]
authorityKeyIdentifier = keyid
extendedKeyUsage = {PURPOSES[purpose]}
{names}""")
        for command in (
                ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
                 f"/CN={subject or name}", "-keyout", key, "-out", request],
                ["openssl", "ca", "-batch", "-config", config, "-cert", self.pki.authority, "-keyfile",
                 self.pki.key("ca"), "-in", request, "-out", certificate, "-notext", "-startdate", begin, "-enddate",
                 end]):
            result = run(*command)
            if result.returncode != 0:
                raise AssertionError(result.stderr)
        return certificate, key


def self_signed(folder, name):
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
        f"/CN={name}", "-days", "30", "-keyout", key, "-out", certificate).check_returncode()
    return certificate, key


def encrypted(key, folder):
    """The same key behind a passphrase."""
    path = folder / f"encrypted-{key.name}"
    run("openssl", "pkcs8", "-topk8", "-in", key, "-out", path, "-passout", "pass:secret").check_returncode()
    return path


def handshake(port, authority, identity=None, flags=("-tls1_2",)):
    """Whether `openssl s_client` comes through. In TLS 1.2 the handshake itself fails; in 1.3 the refusal follows it."""
    arguments = ["-cert", identity[0], "-key", identity[1]] if identity else []
    result = subprocess.run(
        ["openssl", "s_client", "-brief", "-connect", f"127.0.0.1:{port}", "-CAfile", authority,
         "-verify_return_error", *flags, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    return result.returncode == 0 and b"CONNECTION ESTABLISHED" in result.stderr


def served_serial(port, identity):
    """The serial number of the certificate that a port shows."""
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-cert", identity[0], "-key", identity[1]],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20).stdout
    return run("openssl", "x509", "-noout", "-serial", input=shown).stdout.strip().removeprefix("serial=")


def serial(certificate):
    return run("openssl", "x509", "-noout", "-serial", "-in", certificate).stdout.strip().removeprefix("serial=")


def replace(path, source):
    """As careful tools do it: a new file is renamed over the old one."""
    temporary = path.with_suffix(".new")
    shutil.copyfile(source, temporary)
    temporary.rename(path)
