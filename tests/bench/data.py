"""Data moved by fio, each row on a file of its own of a fresh mount."""

import json
import shutil

import contestants

READ = "data/read"

# Name, what fio is told, and whether the file is the lower's.
ROWS = [
    ("seq read first", ["--rw=read", "--bs=1m"], True),
    ("seq read again", ["--rw=read", "--bs=1m"], True),
    ("random read", ["--rw=randread", "--bs=4k"], True),
    ("random read mmap", ["--rw=randread", "--bs=4k", "--ioengine=mmap"], True),
    ("seq read direct", ["--rw=read", "--bs=1m", "--direct=1"], True),
    ("random read direct", ["--rw=randread", "--bs=4k", "--direct=1", "--io_size={part}"], True),
    ("random read, 4 jobs", ["--rw=randread", "--bs=4k", "--numjobs=4"], True),
    ("seq write", ["--rw=write", "--bs=1m", "--end_fsync=1"], False),
    ("random write", ["--rw=randwrite", "--bs=4k", "--end_fsync=1"], False),
    ("random write mmap", ["--rw=randwrite", "--bs=4k", "--ioengine=mmap", "--end_fsync=1"], False),
    ("seq write direct", ["--rw=write", "--bs=1m", "--direct=1"], False),
    ("random write direct", ["--rw=randwrite", "--bs=4k", "--direct=1", "--io_size={part}"],
     False),
    ("fsync per write", ["--rw=randwrite", "--bs=4k", "--fsync=1", "--io_size={part}"], False),
    ("random write, 4 jobs", ["--rw=randwrite", "--bs=4k", "--numjobs=4", "--end_fsync=1"], False),
]


def check():
    if shutil.which("fio") is None:
        raise contestants.Missing("fio is not installed: apt-get install fio")


def prepare(lower, size):
    (lower / "data").mkdir()
    with open(lower / READ, "wb") as file:
        block = bytes(range(256)) * 4096
        for _ in range(size // len(block)):
            file.write(block)


def rows(mounted, size):
    """Each row's name with the nanoseconds of one read or write, or why there are none."""
    for number, (name, words, lower) in enumerate(ROWS):
        path = mounted / READ if lower else mounted / f"data/write{number}"
        try:
            # Written before it is timed: what is measured is the writing, not the growing.
            if not lower and "--rw=write" not in words:
                with open(path, "wb") as file:
                    file.truncate(size)
            said = contestants.call(
                "fio", "--name=row", f"--filename={path}", f"--size={size}",
                "--output-format=json", "--thread", "--invalidate=0", "--group_reporting",
                "--fallocate=none", *(word.format(part=size // 16) for word in words),
                *(["--readonly"] if lower else []))
            job = json.loads(said[said.index("{"):])["jobs"][0]
            count = job["read"]["total_ios"] + job["write"]["total_ios"]
            spent = max(job["read"]["runtime"], job["write"]["runtime"])
            spent = max(spent, job["job_runtime"]) if "--numjobs=4" not in words else spent
            yield name, spent * 1e6 / count
        except (contestants.Missing, OSError) as why:
            yield name, str(why)
        if not lower:
            path.unlink(missing_ok=True)
