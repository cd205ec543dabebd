"""Where batches may go: below what is allowed, whatever a path is spelt like, and nowhere else."""

from pathlib import Path

import pytest

from shokado.batches.allowed_addresses import AddressRefused, allowed

PREFIXES = ("s3://bucket/rows", "gs://other")


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("s3://bucket/rows", "s3://bucket/rows"),
        ("s3://bucket/rows/", "s3://bucket/rows"),
        ("s3://bucket/rows/day=2026-01-31/a.csv", "s3://bucket/rows/day=2026-01-31/a.csv"),
        ("gs://other/x", "gs://other/x"),
    ],
)
def test_what_is_below_is_allowed(address: str, found: str) -> None:
    assert allowed(address, PREFIXES) == found


@pytest.mark.parametrize(
    "address",
    [
        "", "rows", "/", "/etc/passwd", "s3://bucket", "s3://bucket/rows2", "s3://bucket/rows/../secret", "S3://bucket/rows",
        "s3://bucket/rows//x", "s3://bucket/./rows", "s3://bucket/rows::file:///etc/passwd", "s3://u:p@bucket/rows",
        "s3://bucket/rows?x=1", "s3://bucket/rows/*", "file:///etc/passwd", "local:///etc", "zip://x::s3://bucket/rows",
        "s3://bucket/rows/a b", "s3://bucket/rows/%2e%2e/x", "gs://other2/x", "s3://bucket/rows\n",
    ],
)  # fmt: skip
def test_what_is_not_below_is_refused(address: str) -> None:
    with pytest.raises(AddressRefused, match="is not below s3://bucket/rows, gs://other"):
        allowed(address, PREFIXES)


def test_paths_are_looked_at_as_the_kernel_finds_them(tmp_path: Path) -> None:
    (tmp_path / "data" / "in").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "alias").symlink_to(tmp_path / "data")
    prefixes = (str(tmp_path / "data"),)
    for inside in ("data", "data/in", "data/new/out", "data/in/../in", "alias/in"):
        assert Path(allowed(str(tmp_path / inside), prefixes)).is_relative_to(tmp_path / "data")
    for outside in ("secret", "data/../secret", "data/link", "data/link/x", "data2", ""):
        with pytest.raises(AddressRefused):
            allowed(str(tmp_path / outside), prefixes)
    assert allowed(str(tmp_path / "data" / "in"), (str(tmp_path / "alias"),)) == str(tmp_path / "data" / "in")
    with pytest.raises(AddressRefused):
        allowed(f"{tmp_path}/data\0", prefixes)
