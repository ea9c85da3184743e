"""Recipes: what ships loads; what is wrong is named with line and field."""

import time

import pytest

from ctxshaper import Budget, EvidenceFilter, Recipe, RecipeError
from ctxshaper.pipelines import shipped_recipes


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_load(name):
    assert Recipe.load(name).stages


def test_a_recipe_says_all_that_it_can():
    recipe = Recipe.parse(
        "budget: 30%\non_error: skip\nrendering: {label: number, separator: '\\n'}\n"
        "stages:\n  - EvidenceFilter: {unit: block, confidence: 1}\n  - GemFilter\n  - GemFilter:\n"
    )
    assert recipe.budget == Budget(share=0.3)
    assert recipe.stages[0] == EvidenceFilter(unit="block", confidence=1)
    assert (recipe.on_error, recipe.rendering.label, len(recipe.stages)) == ("skip", "number", 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages:\n  - Evidencefilter", r"line 2: there is no stage 'Evidencefilter'.*did you mean 'EvidenceFilter'"),
        ("stages:\n  - EvidenceFilter:\n      units: block", r"line 3: EvidenceFilter has no field 'units'.*'unit'"),
        ("stages:\n  - EvidenceFilter:\n      unit: word", r"line 3: EvidenceFilter.unit must be 'sentence' or"),
        ("stages:\n  - EvidenceFilter:\n      bm25: 1", r"line 3: EvidenceFilter.bm25 must be bool, but got 1"),
        ("stages:\n  - EvidenceFilter:\n      confidence: 7", r"line 3, EvidenceFilter: confidence"),
        ("stages:\n  - EvidenceFilter:\n      reader: x", r"has no field 'reader'"),
        ("stages:\n  - {EvidenceFilter: , GemFilter: }", r"line 2: a stage is one name"),
        ("stages: EvidenceFilter", r"needs `stages:`"),
        ("stagess: []", r"line 1: the recipe has no field 'stagess'.*did you mean 'stages'"),
        ("stages: []\nstages: []", r"line 2: 'stages' stands twice"),
        ("stages: []\nbudget: lots", r"line 2, budget: cannot read the budget"),
        ("stages: []\non_error: hope", r"line 2: on_error must be 'raise' or 'skip'"),
        ("stages: []\nrendering: {label: html}", r"line 2: rendering.label must be"),
        ("- a", r"the recipe must be a mapping"),
        ("", r"the recipe must be a mapping"),
        ("stages: [", r"line 1.*not valid YAML|not valid YAML"),
        ("stages: []\n? [a, b]\n: c", r"line 2: a name in the recipe must be one word"),
        ("stages:\n  - {[a]: b}", r"line 2: a name in a stage must be one word"),
        ("stages: []\nbudget: {[1]: 2}", r"line 2: budget must be one value"),
        ("stages:\n  - EvidenceFilter: {unit: {[1]: 2}}", r"(?s)line 2: not plain data.*unhashable"),
        ("stages:\n  - EvidenceFilter: {unit: 2001-99-99}", r"line 2: not plain data"),
        ("stages:\n  - EvidenceFilter: {unit: &a block}", r"line 2.*no anchors"),
        ("stages:\n  - EvidenceFilter: {unit: *a}", r"line 2.*no anchors"),
        ("stages: " + "[" * 50_000, r"line 1.*nested deeper than 20"),
        ("stages:\n  - EvidenceFilter: {unit: " + "9" * 9_000 + "}", r"line 2: not plain data"),
        ("stages:\n  - EvidenceFilter: {unit: 0x" + "f" * 9_000 + "}", r"unit must be .* got a number too long"),
        ("stages:\n  - EvidenceFilter: {unit: " + "1:" * 6_000 + "1}", r"a value has 12,001 characters"),
        ("stages:\n  - EvidenceFilter: {" + "a" * 900 + ": 1}", r"has no field 'aaa"),
        ("stages:\n  - " + "a" * 900, r"there is no stage 'aaa"),
        ("stages: []\nbudget: !!python/object/apply:os.system true", r"line 2.*not plain data"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(RecipeError, match=message) as caught:
        Recipe.parse(text)
    assert len(str(caught.value)) < 600


def test_an_unknown_recipe_lists_the_known_ones(tmp_path):
    with pytest.raises(RecipeError, match=r"no recipe 'nope'; shipped are .*fast.*qa"):
        Recipe.load("nope")
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"UTF-8|not valid"):
        Recipe.load(tmp_path / "r.yaml")


def test_a_bomb_of_aliases_is_refused_at_once_and_not_printed():
    levels = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9) if i else 'lol'}]\n" for i in range(9))
    started = time.process_time()
    with pytest.raises(RecipeError, match=r"line 1.*no anchors") as caught:
        Recipe.parse(f"{levels}stages:\n  - EvidenceFilter: {{unit: *x8}}\n")
    inline = "[" * 3 + "&a [l, l]" + ", *a" * 9 + "]" * 3
    with pytest.raises(RecipeError, match=r"line 2.*no anchors"):
        Recipe.parse(f"stages:\n  - EvidenceFilter: {{unit: {inline}}}\n")
    assert time.process_time() - started < 1
    assert len(str(caught.value)) < 300


def test_a_long_list_is_not_printed_whole():
    with pytest.raises(RecipeError, match="unit must be") as caught:
        Recipe.parse(f"stages:\n  - EvidenceFilter: {{unit: [{'long, ' * 10_000}]}}")
    assert len(str(caught.value)) < 500


def test_files_have_a_limit(tmp_path):
    (tmp_path / "long.yaml").write_text("#" * 1_000_001)
    with pytest.raises(RecipeError, match="1,000,001 bytes"):
        Recipe.load(tmp_path / "long.yaml")
    with pytest.raises(RecipeError, match="1,000,001 characters"):
        Recipe.parse("#" * 1_000_001)
    for name in ("a" * 5_000, "a\0b"):
        with pytest.raises(RecipeError, match="there is no recipe"):
            Recipe.load(name)


def test_a_recipe_is_called_after_its_file_and_does_not_name_itself(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("stages: [EvidenceFilter]")
    assert Recipe.load(path).name == "mine"
    assert Recipe.load("qa").name == "qa"
    assert Recipe.load(path) == Recipe.parse("stages: [EvidenceFilter]", "another")
    with pytest.raises(RecipeError, match="no field 'name'"):
        Recipe.parse("stages: [EvidenceFilter]\nname: other")
