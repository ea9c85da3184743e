"""`ctxshaper store stat | gc | verify`."""

import functools

import pytest
import typer
from typer.testing import CliRunner

from ctxshaper.commands.store import parse_size, readable, store_app
from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.store import KeyStore


def explained(command):
    @functools.wraps(command)
    def run(*args, **options):
        try:
            command(*args, **options)
        except InvalidInputError as error:
            typer.echo(f"ctxshaper: {error}", err=True)
            raise typer.Exit(2) from error

    return run


def ask(*arguments):
    return CliRunner().invoke(store_app(explained), [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path):
    with KeyStore(tmp_path / "keys", max_bytes=8 * 2**20) as store:
        store.put_many("keys", b"\x12\x34weights", {bytes([n]): bytes([n]) * 17_000 for n in range(200)})
        store.put_many("tokens", b"\x12\x34weights", {b"a": b"1"})
    return tmp_path / "keys"


def test_stat_says_kinds_sizes_and_the_bound(folder):
    said = ask("stat", folder)
    assert said.exit_code == 0, said.output
    for part in ("keys", "tokens", "1234", "201 records", "3.2 MiB", "of at most 8.0 MiB"):
        assert part in said.output


def test_gc_frees_space(folder):
    before = (folder / "store.mdb").stat().st_size
    said = ask("gc", folder, "--max-bytes", "2MiB")
    assert said.exit_code == 0, said.output
    assert "freed" in said.output
    assert (folder / "store.mdb").stat().st_size <= 2 * 2**20 < before


def test_verify_exits_with_one_until_repaired(folder):
    assert "201 records, 0 damaged" in ask("verify", folder).output
    file = folder / "store.mdb"
    data = bytearray(file.read_bytes())
    data[data.index(bytes([7]) * 10_000) + 500] ^= 1
    file.write_bytes(data)
    damaged = ask("verify", folder)
    assert damaged.exit_code == 1
    assert "201 records, 1 damaged" in damaged.output
    repaired = ask("verify", folder, "--repair")
    assert repaired.exit_code == 0
    assert "repaired" in repaired.output
    assert "200 records, 0 damaged" in ask("verify", folder).output


def test_verify_names_a_damaged_structure_and_repair_sets_it_aside(folder):
    file = folder / "store.mdb"
    data = bytearray(file.read_bytes())
    for page in range(2, len(data) // 4096):
        # The first half of a leaf: where its nodes are.
        if data[page * 4096 + 10 : page * 4096 + 12] == b"\2\0" and data[page * 4096] == page % 256:
            data[page * 4096 + 16 : page * 4096 + 18] = b"\xff\xff"
    file.write_bytes(data)
    found = ask("verify", folder)
    assert found.exit_code == 1
    assert "structure:" in found.output
    assert ask("verify", folder, "--repair").exit_code == 0
    assert list(folder.glob("*.damaged-1"))
    assert ask("verify", folder).exit_code == 0


def test_a_folder_without_a_store_is_one_clear_line_and_stays_empty(tmp_path):
    for command in ("stat", "gc", "verify"):
        said = ask(command, tmp_path)
        assert said.exit_code == 2
        assert "there is no store in" in said.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "size"),
    [("1000", 1000), ("2GiB", 2 * 2**30), ("500MB", 500_000_000), ("1.5 k", 1500), ("3tib", 3 * 2**40)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1e9", "2XB", "9" * 40])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(InvalidInputError, match="is no size"):
        parse_size(text)


def test_readable_sizes():
    assert [readable(size) for size in (0, 1023, 1536, 2**40)] == ["0 bytes", "1,023 bytes", "1.5 KiB", "1.0 TiB"]
