"""Recipes: what ships loads; what is wrong is named with line and field."""

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
        ("stages: []\nbudget: !!python/object/apply:os.system ['true']", r"line 2.*not plain data"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.parse(text)


def test_an_unknown_recipe_lists_the_known_ones(tmp_path):
    with pytest.raises(RecipeError, match=r"no recipe 'nope'; shipped are .*fast.*qa"):
        Recipe.load("nope")
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"UTF-8|not valid"):
        Recipe.load(tmp_path / "r.yaml")
