"""Grids: which cells there are and what is set in each, from Python and from TOML; and every mistake in one line."""

import json
import re

import numpy as np
import pytest

from escapevelocity.errors import UserError, require_seeds
from escapevelocity.study.grid import Rule, Study, cells, label_of, read_study

AXES = {"epochs": (10, 20), "activation": ("tanh", "relu"), "remedy": ("none", "pfo")}

HOPPER = """
name = "hopper"
seeds = [25, 7]
population = 1
imports = ["my_remedies"]

[base]
task = "Hopper-v4"
pfo.coef = 1.0

[axes]
epochs = [10, 15, 20]
activation = ["tanh", "relu"]
remedy = ["none", "pfo"]

[[when]]
match = { activation = "relu", remedy = "pfo" }
set = { "pfo.coef" = 10.0 }

[[exclude]]
epochs = 15
remedy = "pfo"
"""


def write(tmp_path, text):
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def study(**changed):
    return Study(**{"name": "s", "base": {"task": "Hopper-v4"}, "axes": AXES} | changed)


def test_the_cells_are_the_product_of_the_axes_and_the_last_axis_runs_fastest():
    made = cells(study())
    assert [tuple(cell.labels.values()) for cell in made] == [
        (10, "tanh", "none"),
        (10, "tanh", "pfo"),
        (10, "relu", "none"),
        (10, "relu", "pfo"),
        (20, "tanh", "none"),
        (20, "tanh", "pfo"),
        (20, "relu", "none"),
        (20, "relu", "pfo"),
    ]
    assert made[3].settings == {"task": "Hopper-v4", "epochs": 10, "activation": "relu", "remedy": "pfo"}
    assert str(made[3]) == "epochs 10, activation relu, remedy pfo"


def test_a_study_without_axes_is_one_cell():
    (cell,) = cells(study(axes={}))
    assert (dict(cell.labels), cell.settings) == ({}, {"task": "Hopper-v4"})


def test_an_axis_goes_before_the_base_and_a_rule_before_both():
    rules = (
        Rule({"epochs": 20}, {"learning_rate": 0.1}),
        Rule({"epochs": 20, "activation": "relu"}, {"learning_rate": 0.2}),
    )
    base = {"task": "Hopper-v4", "learning_rate": 1.0, "epochs": 5}
    found = {
        tuple(c.labels.values()): c.settings["learning_rate"] for c in cells(study(base=base, when=rules))
    }
    assert (found[10, "relu", "none"], found[20, "tanh", "pfo"], found[20, "relu", "none"]) == (1.0, 0.1, 0.2)
    assert {cell.settings["epochs"] for cell in cells(study(base=base))} == {10, 20}


def test_a_table_on_an_axis_sets_several_settings_under_its_label():
    sizes = (
        {"label": "small", "hidden": [64, 64]},
        {"label": "wide", "hidden": [256, 256], "learning_rate": 1e-4},
    )
    made = cells(study(axes={"size": sizes, "epochs": (10,)}, exclude=({"size": "small"},)))
    assert [cell.labels for cell in made] == [{"size": "wide", "epochs": 10}]
    assert made[0].settings == {
        "task": "Hopper-v4",
        "hidden": [256, 256],
        "learning_rate": 1e-4,
        "epochs": 10,
    }


def test_a_list_is_a_value_and_its_label_joins_the_parts():
    axes = {"remedy": ("none", ["pfo", "layer-norm"])}
    made = cells(study(axes=axes, exclude=({"remedy": ["pfo", "layer-norm"]},)))
    assert [cell.labels["remedy"] for cell in made] == ["none"]
    made = cells(study(axes=axes, exclude=({"remedy": "none"},)))
    assert (made[0].labels["remedy"], made[0].settings["remedy"]) == ("pfo+layer-norm", ["pfo", "layer-norm"])


def test_true_is_not_one():
    axes = {"layer_norm": (True, False), "epochs": (1, 2)}
    left = cells(study(axes=axes, exclude=({"layer_norm": True, "epochs": 1},)))
    assert [tuple(cell.labels.values()) for cell in left] == [(True, 2), (False, 1), (False, 2)]
    with pytest.raises(UserError, match="layer_norm = 1: matches nothing"):
        study(axes=axes, exclude=({"layer_norm": 1},))
    assert label_of(True) is True


def test_values_that_python_makes_have_labels_that_json_can_hold():
    axes = {"episode_limit": (None, 100), "rate": tuple(np.float32([0.5, 2.0])), "wide": (np.bool_(True),)}
    made = cells(study(axes=axes, exclude=({"episode_limit": None, "rate": np.float64(0.5)},)))
    labels = [cell.labels for cell in made]
    assert json.loads(json.dumps(labels)) == [
        {"episode_limit": limit, "rate": rate, "wide": True}
        for limit, rate in (("none", 2.0), (100, 0.5), (100, 2.0))
    ]
    assert made[0].settings["episode_limit"] is None
    with pytest.raises(UserError, match="axis hidden: 'none' is given twice"):
        study(axes={"hidden": (None, "none")})


def test_a_remedys_table_on_an_axis_or_in_a_rule_goes_before_the_bases_fields():
    tables = tuple({"label": f"coef {c}", "remedy": {"pfo": {"coef": c}}} for c in (1.0, 3.0))
    study = Study("s", {"remedy": "pfo", "pfo.coef": 10.0, "pfo.layers": "all"}, {"arm": tables})
    assert [cell.settings for cell in cells(study)] == [
        {"remedy": {"pfo": {"coef": c}}, "pfo.layers": "all"} for c in (1.0, 3.0)
    ]
    rule = Rule({"epochs": 20}, {"remedy": {"pfo": {"coef": 2.0}}})
    study = Study("s", {"remedy": "pfo", "pfo.coef": 10.0}, {"epochs": (10, 20)}, when=(rule,))
    assert [cell.settings for cell in cells(study)] == [
        {"remedy": "pfo", "pfo.coef": 10.0, "epochs": 10},
        {"remedy": {"pfo": {"coef": 2.0}}, "epochs": 20},
    ]


@pytest.mark.parametrize("setting", [{"pfo.coef": 10.0}, {"remedy": {"pfo": {"coef": 10.0}}}])
def test_a_remedys_field_is_one_setting_however_it_is_written(setting):
    table = {"label": "coef 1", "remedy": {"pfo": {"coef": 1.0}}}
    with pytest.raises(
        UserError, match=r"when 1: sets (pfo\.coef|remedy), which axis arm = 'coef 1' sets too"
    ):
        Study("s", {}, {"arm": (table,), "epochs": (10, 20)}, when=(Rule({"epochs": 20}, setting),))
    with pytest.raises(UserError, match=r"when 1: sets pfo\.coef, which is an axis"):
        Study("s", {}, {"pfo.coef": (1.0,), "epochs": (10,)}, when=(Rule({"epochs": 10}, setting),))
    with pytest.raises(
        UserError, match=r"axis pfo\.coef = 3\.0: sets pfo\.coef, which another axis sets too"
    ):
        cells(Study("s", {}, {"arm": (table,), "pfo.coef": (3.0,)}))


def test_a_rule_must_not_set_what_a_table_of_an_axis_sets_in_its_cells():
    axes = {"epochs": (1, 2), "size": ({"label": "small", "hidden": [8]}, {"label": "big", "gamma": 0.9})}
    message = "when 1: sets hidden, which axis size = 'small' sets too"
    for match in ({"size": "small"}, {"epochs": 1}):
        with pytest.raises(UserError, match=message):
            study(axes=axes, when=(Rule(match, {"hidden": [64]}),))
    elsewhere = study(axes=axes, when=(Rule({"size": "big"}, {"hidden": [64]}),))
    assert [cell.settings["hidden"] for cell in cells(elsewhere)] == [[8], [64]] * 2


def test_a_file_says_the_same_as_python(tmp_path):
    made = read_study(write(tmp_path, HOPPER))
    assert made == Study(
        name="hopper",
        base={"task": "Hopper-v4", "pfo.coef": 1.0},
        axes=AXES | {"epochs": (10, 15, 20)},
        seeds=(25, 7),
        population=1,
        imports=("my_remedies",),
        exclude=({"epochs": 15, "remedy": "pfo"},),
        when=(Rule({"activation": "relu", "remedy": "pfo"}, {"pfo.coef": 10.0}),),
    )
    assert len(cells(made)) == 3 * 2 * 2 - 2
    ruled = [cell for cell in cells(made) if cell.settings["pfo.coef"] == 10.0]
    assert [str(cell) for cell in ruled] == [
        "epochs 10, activation relu, remedy pfo",
        "epochs 20, activation relu, remedy pfo",
    ]


def test_seeds_of_a_file_may_be_ranges(tmp_path):
    text = 'name = "s"\nseeds = ["3:5", 9, "1:1"]\n[base]\ntask = "x"\n'
    assert read_study(write(tmp_path, text)).seeds == (3, 4, 5, 9, 1)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    text = '\ufeffname = "s"\nseeds = [7]\n[base]\ntask = "x"\n'
    assert read_study(write(tmp_path, text)).seeds == (7,)


def test_many_seeds_are_compared_in_one_pass():
    class Counted(tuple):
        looks = 0

        def count(self, seed):  # One look at all the seeds.
            Counted.looks += 1
            return super().count(seed)

    seeds = Counted(range(2_000))
    assert Study("s", {"task": "x"}, {}, seeds=seeds).seeds == seeds
    require_seeds(seeds)
    assert Counted.looks == 0
    with pytest.raises(UserError, match="seeds = 3: must be different each: it is given twice"):
        Study("s", {"task": "x"}, {}, seeds=(3, 4, 3))


def test_tables_on_an_axis_of_a_file_keep_those_of_a_remedy(tmp_path):
    text = """
name = "s"
[axes]
remedy = ["none", { label = "strong", remedy = { pfo = { coef = 10 } }, pfo.layers = "all" }]
"""
    value = read_study(write(tmp_path, text)).axes["remedy"][1]
    assert value == {"label": "strong", "remedy": {"pfo": {"coef": 10}}, "pfo.layers": "all"}


def test_a_study_can_be_named_in_python(tmp_path, monkeypatch):
    (tmp_path / "grid_of_mine.py").write_text(
        "from escapevelocity.study.grid import Study\n"
        "STUDY = Study('mine', {'task': 'Hopper-v4'}, {})\nOTHER = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    assert read_study("grid_of_mine:STUDY").name == "mine"
    with pytest.raises(UserError, match="grid_of_mine:OTHER: must be a Study, is int"):
        read_study("grid_of_mine:OTHER")
    with pytest.raises(UserError, match="grid_of_mine:NONE: must be a Study, is NoneType"):
        read_study("grid_of_mine:NONE")
    with pytest.raises(UserError, match="import = 'no_such_grid': not found"):
        read_study("no_such_grid:STUDY")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "a/b"}, "name = 'a/b': must be letters"),
        ({"name": ".hidden"}, "name = '.hidden'"),
        ({"seeds": ()}, r"seeds = \[\]: must be one or more"),
        ({"seeds": (1, 2, 1)}, "seeds = 1: must be different each"),
        ({"seeds": (-1,)}, "seeds = -1: must be integers between"),
        ({"population": 0}, "population = 0: must be at least 1 seed"),
        ({"axes": {"epochs": ()}}, r"axis epochs = \[\]: must be a list of one or more"),
        ({"axes": {"epochs": (10, 10)}}, "axis epochs: 10 is given twice"),
        (
            {"axes": {"size": ({"hidden": [64]},)}},
            "axis size = .*: must be values, or tables .* with a label",
        ),
        ({"axes": {"size": ({"label": "x"},)}}, "axis size = .*: must be values, or tables"),
        ({"exclude": ({},)}, "exclude 1 = {}: must be one or more axes"),
        ({"exclude": ({"epoch": 10},)}, r"exclude 1: epoch is not an axis; did you mean epochs\?"),
        (
            {"exclude": ({"epochs": 10}, {"epochs": 12})},
            "exclude 2: epochs = 12: matches nothing; the values of epochs are 10, 20",
        ),
        ({"exclude": ({"task": "Hopper-v4"},)}, "exclude 1: task is not an axis; known are activation"),
        ({"when": (Rule({"remedy": "pf"}, {"pfo.coef": 1}),)}, "when 1: remedy = 'pf': matches nothing"),
        ({"when": (Rule({"remedy": "pfo"}, {}),)}, "when 1: set = {}: must be one or more settings"),
        ({"when": (Rule({"remedy": "pfo"}, {"epochs": 3}),)}, "when 1: sets epochs, which is an axis"),
    ],
)
def test_a_mistake_in_a_study_is_one_line(changed, message):
    with pytest.raises(UserError, match=message) as caught:
        study(**changed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"exclude": ({"epochs": 10}, {"epochs": 20})}, "study s: its exclusions leave no run of 8"),
        (
            {"exclude": ({"remedy": "pfo"},), "when": (Rule({"remedy": "pfo"}, {"pfo.coef": 1}),)},
            "when 1: match = {remedy = 'pfo'}: matches no cell that is left",
        ),
        (
            {"axes": {"epochs": (1,), "size": ({"label": "x", "epochs": 2},)}},
            "axis size = 'x': sets epochs, which another axis sets too",
        ),
    ],
)
def test_a_mistake_that_only_the_grid_shows_is_one_line(changed, message):
    with pytest.raises(UserError, match=re.escape(message)):
        cells(study(**changed))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "s"\nseed = [1]\n', r"seed = \[1\]: unknown key; did you mean seeds\?"),
        ("seeds = [1]\n", "name = None: must be given"),
        ("name = 3\n", "name = 3: must be text"),
        ('name = "s"\nseeds = 5\n', "seeds = 5: must be a list of integers and inclusive ranges"),
        ('name = "s"\nseeds = [1.5]\n', r"seeds = 1\.5: must be a list of integers"),
        ('name = "s"\nseeds = ["5:3"]\n', "seeds = '5:3': must be a range a:b with a ≤ b"),
        ('name = "s"\nseeds = ["1:99999999"]\n', "at most 100,000 seeds"),
        ('name = "s"\nseeds = [true]\n', "seeds = True: must be a list of integers"),
        ('name = "s"\npopulation = "all"\n', "population = 'all': must be an integer"),
        ('name = "s"\npopulation = 0\n', "population = 0: must be at least 1"),
        ('name = "s"\nimports = "m"\n', "imports = 'm': must be a list of words"),
        ('name = "s"\nbase = 3\n', "base = 3: must be a table"),
        ('name = "s"\n[base]\ntask = "x"\nseeds = [1, 2]\n', r"seeds: stands in \[base\]; put it at the top"),
        ('name = "s"\n[axes]\nseeds = [1, 2]\n', r"seeds: stands in \[axes\]; put it at the top"),
        ('name = "s"\n[axes]\nepochs = 10\n', "axis epochs = 10: must be a list of values"),
        ('name = "s"\n[exclude]\nepochs = 10\n', r"exclude = .*: must be tables, each under \[\[exclude\]\]"),
        (
            'name = "s"\n[[when]]\nmatch = {}\nsets = {}\n',
            "when 1: sets = {}: unknown key; it has match and set",
        ),
        ('name = "s"\n[base\ntask = "x"\n', r"is not valid TOML: .*\(at line 2"),
        ('name = "s"\nname = "t"\n', r"is not valid TOML: Cannot overwrite a value \(at line 2"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_names_the_file(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=message) as caught:
        read_study(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*nothing\.toml: No such file"):
        read_study(tmp_path / "nothing.toml")
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory"):
        read_study(tmp_path)
    path = tmp_path / "latin.toml"
    path.write_bytes(b'name = "\xe9"\n')
    with pytest.raises(UserError, match="is not text in UTF-8"):
        read_study(path)
