"""Whole jobs, as people run them; each is timed from a fresh mount with an empty upper."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import contestants

ROOT = pathlib.Path(os.environ.get("LAYERFS_E2E_DIR", "/var/tmp/layerfs-e2e")) / "root"
MIRRORS = pathlib.Path(__file__).resolve().parents[2] / "scripts/debian-mirrors"
SOURCE_PACKAGE = "zlib"
NPM_PACKAGES = {"eslint": "8", "express": "4", "lodash": "4"}
NO_CONFIG = os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null"}


def run(*arguments, where, **options):
    result = subprocess.run([str(a) for a in arguments], cwd=where, check=False, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, timeout=900, **options)
    if result.returncode != 0:
        said = result.stderr.strip().splitlines()
        raise contestants.Missing(said[-1] if said else f"{arguments[0]}: {result.returncode}")


def shell(text):
    return lambda where: run("sh", "-euc", text, where=where)


def git(*arguments):
    return lambda where: run("git", "-c", "safe.directory=*", *arguments, where=where,
                             env=NO_CONFIG)


def npm(*arguments):
    return lambda where: run("npm", *arguments, "--no-audit", "--no-fund", "--ignore-scripts",
                             "--cache", where.parent / "npm-cache", where=where)


def prepare_tree(job, files):
    tree = job / "tree"
    for i in range(files):
        path = tree / f"d{i // 100}" / f"e{i // 10 % 10}" / f"file{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{i}\n" * (1 + i % 300))
    run("tar", "cf", job / "tree.tar", "tree", where=job)


def prepare_repository(job, files):
    if shutil.which("git") is None:
        raise contestants.Missing("git is not installed")
    repository = job / "repository"
    flat = ROOT / "root/flat/usr"
    if not flat.is_dir():
        shutil.copytree(job / "tree", repository)
    else:
        # Real names and sizes.
        repository.mkdir()
        count = 0
        for directory, _, names in os.walk(flat):
            to = repository / pathlib.Path(directory).relative_to(flat)
            for name in names:
                path = pathlib.Path(directory, name)
                if path.is_file() and not path.is_symlink() and path.stat().st_size < 100_000:
                    to.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, to / name)
                    count += 1
            if count >= files:
                break
    run("git", "init", "-q", where=repository, env=NO_CONFIG)
    run("git", "add", "-f", ".", where=repository, env=NO_CONFIG)
    run("git", "-c", "user.name=b", "-c", "user.email=b@localhost", "commit", "-qm", "all",
        where=repository, env=NO_CONFIG)


def prepare_source(job, _files):
    """A Debian source package from apt's mirror, with lists and a cache of its own."""
    if shutil.which("dpkg-source") is None:
        raise contestants.Missing("dpkg-source is not installed: apt-get install dpkg-dev")
    mirrors = contestants.call(MIRRORS).split()
    release = pathlib.Path("/etc/os-release").read_text().splitlines()
    suite = next((line.split("=")[1].strip('"') for line in release
                  if line.startswith("VERSION_CODENAME=")), None)
    if not mirrors or suite is None:
        raise contestants.Missing("apt has no Debian mirror")
    own = job / "apt"
    for part in ("state/lists/partial", "cache/archives/partial", "source"):
        (own / part).mkdir(parents=True)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (own / "sources.list").write_text(f"deb-src [signed-by={keyring}] {mirrors[0]} {suite} main\n")
    apt = ["apt-get", "-q", "-o", f"Dir::Etc::sourcelist={own}/sources.list",
           "-o", "Dir::Etc::sourceparts=/dev/null", "-o", f"Dir::State={own}/state",
           "-o", f"Dir::Cache={own}/cache", "-o", "Dir::State::status=/dev/null",
           "-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root"]
    try:
        run(*apt, "-o", "APT::Update::Error-Mode=any", "update", where=own)
        run(*apt, "--download-only", "source", SOURCE_PACKAGE, where=own / "source")
        description = next((own / "source").glob("*.dsc"))
        run("dpkg-source", "--no-check", "-x", description, job / "source", where=own)
    finally:
        shutil.rmtree(own)


def prepare_npm(job, _files):
    if shutil.which("npm") is None:
        raise contestants.Missing("npm is not installed")
    project = job / "npm"
    project.mkdir()
    (project / "package.json").write_text(
        json.dumps({"name": "bench", "version": "1.0.0", "dependencies": NPM_PACKAGES}))
    npm("install", "--fetch-retries=1")(project)
    # What it resolves from the lock is not quite what it has fetched to make it.
    npm("ci", "--prefer-offline")(project)
    shutil.rmtree(project / "node_modules")


def prepare_python(job, _files):
    """The standard library as it is installed here."""
    shutil.copytree(sysconfig.get_path("stdlib"), job / "python", symlinks=True,
                    ignore=shutil.ignore_patterns("test", "tests", "*-packages", "idlelib"))


IMPORTS = ("argparse ast asyncio base64 bz2 calendar cgi cmd code codecs collections "
           "concurrent.futures configparser contextlib csv ctypes dataclasses datetime "
           "decimal difflib dis doctest email.message email.mime.multipart encodings.idna "
           "enum fileinput fractions ftplib getpass gettext glob gzip hashlib html.parser "
           "http.client http.server imaplib inspect ipaddress json logging.config lzma "
           "mailbox mimetypes multiprocessing.pool netrc optparse pathlib pdb pickle "
           "pickletools plistlib poplib pprint profile pstats pydoc queue random sched "
           "secrets shelve shlex shutil smtplib socketserver sqlite3 ssl statistics string "
           "subprocess tarfile tempfile textwrap timeit tokenize traceback tracemalloc "
           "unittest.mock urllib.request uuid venv wave webbrowser wsgiref.simple_server "
           "xml.dom.minidom xml.etree.ElementTree xml.sax xmlrpc.client zipapp zipfile").split()


def python_imports(where):
    roots = {name.split(".")[0] for name in IMPORTS} - {"sys", "encodings", "codecs"}
    code = (f"import sys; p = {str(where)!r}; sys.path[:] = [p, p + '/lib-dynload'];"
            "[sys.modules.pop(m) for m in list(sys.modules)"
            f" if m.split('.')[0] in {sorted(roots)!r}];"
            f"import {', '.join(IMPORTS)}")
    run(sys.executable, "-S", "-B", "-c", code, where=where)


PREPARATIONS = {"tree": prepare_tree, "repository": prepare_repository, "source": prepare_source,
                "npm": prepare_npm, "python": prepare_python}

# Name, the directory that it needs and works in, and what is run there. `find` comes first,
# before anything is in a cache.
JOBS = [
    ("find first", "tree", shell("find . -ls")),
    ("find again", "tree", shell("find . -ls")),
    ("tar c", "tree", shell("tar cf - . | wc -c")),
    ("untar", "tree", shell("mkdir ../out && tar xf ../tree.tar -C ../out")),
    ("git status", "repository", git("status")),
    ("git clone", "repository", git("clone", "-q", ".", "../clone")),
    ("build make -j2", "source", shell("./configure && make -j2")),
    ("npm ci", "npm", npm("ci", "--offline")),
    ("python3 imports first", "python", python_imports),
    ("python3 imports again", "python", python_imports),
    ("cp -a", "tree", shell("cp -a . ../copy")),
    ("chown -R lower", "tree", shell("chown -R 1000:1000 .")),
    ("rm -rf upper", "tree", shell("rm -rf ../out")),
    ("rm -rf lower", "tree", shell("rm -rf ../tree")),
]

APT = ("export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C;"
       " mount -t proc proc proc; chroot . apt-get -q -y --no-download --no-install-recommends"
       " install iputils-ping cron tree")

# In a root of three layers.
ROOT_JOBS = [
    ("find / of a root", lambda m: run("find", ".", "-ls", where=m)),
    ("tar c of a root", lambda m: run("sh", "-c", "tar cf - . | wc -c", where=m)),
    # In a mount namespace of its own, which takes /proc away with it.
    ("apt-get install", lambda m: run("unshare", "--mount", "sh", "-euc", APT, where=m)),
    ("rm -rf of a root", lambda m: run("sh", "-c", "rm -rf -- *", where=m)),
]


def prepare(lower: pathlib.Path, files: int):
    """Makes what the jobs need; returns what cannot be had, and why."""
    job = lower / "job"
    job.mkdir()
    missing = {}
    for name, preparation in PREPARATIONS.items():
        try:
            preparation(job, files)
        except (contestants.Missing, subprocess.SubprocessError, OSError, StopIteration) as why:
            missing[name] = str(why) or type(why).__name__
    return missing


def debian_root() -> contestants.Layers:
    """What tests/e2e/debian has made (places.py)."""
    if not (ROOT / "root/flat/usr/bin/dpkg").exists():
        raise contestants.Missing(f"no Debian root in {ROOT}; tests/e2e/debian/run makes it")
    return contestants.Layers(ROOT / "root", ["layer3", "layer2", "layer1"], ROOT / "root/flat")
