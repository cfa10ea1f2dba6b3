"""The structure of the package: few entries, short chains, and parts that describe themselves."""

import house


def test_there_are_few_entries_at_the_top():
    assert 0 < len(house.entries()) <= house.MAX_ENTRIES


def test_no_module_imports_itself_by_way_of_others():
    assert house.circles() == []


def test_chains_of_imports_are_short():
    assert len(house.chain()) <= house.MAX_CHAIN, house.chain()


def test_files_are_short():
    assert len(house.long_files()) <= house.MAX_LONG_FILES, house.long_files()


def test_no_part_is_told_by_its_type_from_outside():
    assert house.told_by_type() == []


def test_no_fit_is_told_by_the_name_of_its_method():
    assert house.told_by_method() == []


def test_no_site_is_known_outside_the_part_that_owns_it():
    assert house.told_by_site() == []


def test_what_is_looked_for_is_found():
    """The searches see something: otherwise all of the above would pass for any package."""
    assert len(house.modules()) > 50
    assert any(house.imports().values())
    owners = dict.fromkeys(house.PARTS, ())
    known, house.PARTS = house.PARTS, owners
    try:
        house.PARTS = dict.fromkeys(owners, ("nowhere",))
        assert house.told_by_type()
    finally:
        house.PARTS = known
