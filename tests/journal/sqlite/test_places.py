"""Where a journal's file may be, and where not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alphapo_async.core.errors import JournalError
from alphapo_async.journal.sqlite.places import Place, filesystem_of, is_mounted, kind_by_statfs, place_of
from tests.support.descriptors import none_left
from tests.support.mounts import mounted

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:44 / /srv/team rw - nfs4 server:/team rw
31 30 0:45 / /srv/team/local\\040disk rw shared:1 - xfs /dev/vdb rw
32 27 0:46 / /home/me/cloud rw - fuse.rclone remote: rw
broken line - ext4
1 2 3 4 - ext4 /dev/vdc rw
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the place of a file that is not there yet."""
    return tmp_path / "payouts.db"


def listed(tmp_path: Path, kind: str, place: Path | None = None) -> Path:
    """Write a list of mounts in which this is the file system of a place."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"1 1 0:1 / {place or tmp_path.resolve()} rw - {kind} disk rw\n")
    return mounts


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/srv/team", "nfs4"),
        ("/srv/team/payouts", "nfs4"),
        ("/srv/teamwork", "ext4"),
        ("/srv/team/local disk/x", "xfs"),
        ("/home/me/cloud/x", "fuse.rclone"),
        ("/proc", "proc"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(place: str, kind: str) -> None:
    """Read from the system's own list; without one it is not known."""
    assert filesystem_of(Path(place), MOUNTS) == kind
    assert filesystem_of(Path(place), "") == ""


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "apfs", "hfs"])
def test_a_local_disk_is_right(path: Path, tmp_path: Path, kind: str) -> None:
    """Its locks hold, and what it flushed stays."""
    assert place_of(path, listed(tmp_path, kind)) == Place(is_durable=True, caution=None)


@pytest.mark.parametrize(
    "kind",
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "fuse.sshfs",
        "fuseblk",
        "9p",
        "virtiofs",
        "ceph",
        "lustre",
        "glusterfs",
        "ntfs3",
        "vfat",
        "new",
    ],
)
def test_every_other_file_system_is_refused_unless_the_operator_vouches_for_it(
    path: Path, tmp_path: Path, kind: str
) -> None:
    """With its kind, what to use instead, and how to vouch for it."""
    mounts = listed(tmp_path, kind)
    with pytest.raises(JournalError, match="use PostgreSQL") as caught:
        place_of(path, mounts)
    assert f"is on a file system ({kind}), whose locks and flushes are not known to hold" in caught.value.detail
    assert "sqlite:///PATH?filesystem=any" in caught.value.detail
    assert caught.value.recorded is None
    assert place_of(path, mounts, is_any=True) == Place(is_durable=True, caution=None)


def test_a_file_system_that_is_not_named_is_refused(path: Path, tmp_path: Path) -> None:
    """There is no list of mounts, as in a jail without /proc."""
    with pytest.raises(JournalError, match="is on a file system that the system does not name, whose locks"):
        place_of(path, tmp_path / "no mounts")
    assert place_of(path, tmp_path / "no mounts", is_any=True).is_durable


def test_a_list_of_mounts_that_cannot_be_opened_now_says_why(path: Path) -> None:
    """It says nothing of the file system."""
    with none_left(), pytest.raises(JournalError, match="this process has too many open files"):
        place_of(path)


def test_a_containers_layer_ends_with_it(path: Path, tmp_path: Path) -> None:
    """It is used, and the operator is told."""
    place = place_of(path, listed(tmp_path, "overlay"))
    assert place.is_durable
    assert place.caution is not None
    assert "in the layer of a container (overlay), which ends with the container: put it on a volume" in place.caution


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
def test_a_file_system_in_memory_is_not_durable(path: Path, tmp_path: Path, kind: str) -> None:
    """It ends with the machine; so says also a real one."""
    place = place_of(path, listed(tmp_path, kind))
    assert not place.is_durable
    assert place.caution is not None
    assert f"is on a file system in memory ({kind}), which ends with the machine: put it on a disk" in place.caution


def test_a_real_file_system_in_memory_is_known(tmp_path: Path) -> None:
    """By the system's own list."""
    with mounted(tmp_path):
        assert not place_of(tmp_path / "payouts.db").is_durable


def statfs(name: bytes, result: int = 0) -> Callable[[], Callable[[bytes, Any], int]]:
    """Return what stands for the system's call on macOS: it writes a record with this name."""

    def call(folder: bytes, record: Any) -> int:
        assert folder == b"/Users/me"
        record[72 : 72 + len(name)] = name
        return result

    return lambda: call


def test_on_macos_the_system_is_asked() -> None:
    """Its record names the file system; where the call fails nothing is known."""
    assert kind_by_statfs(Path("/Users/me"), statfs(b"apfs\0rest")) == "apfs"
    assert kind_by_statfs(Path("/Users/me"), statfs(b"sixteen-letters!")) == "sixteen-letters!"
    assert kind_by_statfs(Path("/Users/me"), statfs(b"apfs", -1)) == ""


def test_what_the_system_says_counts_more_than_a_list(path: Path, tmp_path: Path) -> None:
    """MacOS has no list of mounts."""
    assert place_of(path, tmp_path / "no mounts", ask_system=lambda _folder: "apfs").is_durable
    with pytest.raises(JournalError, match="smbfs"):
        place_of(path, tmp_path / "no mounts", ask_system=lambda _folder: "smbfs")


def test_a_file_that_is_mounted_by_itself_is_refused(path: Path, tmp_path: Path) -> None:
    """With the advice to mount its folder; a folder that is mounted is right, and so is a name with a blank."""
    with pytest.raises(JournalError, match=r"is a mount point by itself.* Mount the folder it is in"):
        place_of(path, listed(tmp_path, "ext4", path.resolve()))
    line = "1 1 0:1 / {} rw - ext4 disk rw\n"
    assert is_mounted(Path("/srv/my journal.db"), line.format("/srv/my\\040journal.db") + "short line\n")
    assert not is_mounted(Path("/srv/my journal.db"), "short line\n")


def test_a_file_with_a_second_name_is_refused(path: Path, tmp_path: Path) -> None:
    """Beside a hard link are other locks and another log; the operator cannot vouch for that."""
    path.write_text("")
    (tmp_path / "link.db").hardlink_to(path)
    for is_any in (False, True):
        with pytest.raises(JournalError, match="has 2 hard links"):
            place_of(path, listed(tmp_path, "ext4"), is_any=is_any)
    (tmp_path / "link.db").unlink()
    place_of(path, listed(tmp_path, "ext4"))


def test_a_folder_that_is_missing_is_not_made(tmp_path: Path) -> None:
    """A wrong name must not begin a new journal."""
    with pytest.raises(JournalError, match=r"does not exist\. Make it, or name another file"):
        place_of(tmp_path / "nowhere" / "payouts.db")
