"""`--remedy` and `ev remedies`: what a command line asks for is what the run's settings hold."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from escapevelocity.cli._remedy_options import make_remedies, take_remedies
from escapevelocity.cli.remedies import summaries
from escapevelocity.errors import UserError
from escapevelocity.ppo.remedies import PFO, REMEDIES, KLEarlyStop, ReDo

HOPPER = ["train", "Hopper-v4", "--steps", "4096"]


def remedies_of(*arguments):
    return make_remedies(take_remedies(arguments), "ev train")


def first_line(cls):
    return (cls.__doc__ or "").strip().split("\n")[0]


def settings(answer):
    assert answer.code == 0, answer.err
    return json.JSONDecoder().raw_decode(answer.out)[0]["spec"]


@pytest.fixture
def third_party(tmp_path):
    """A module of the user's beside the runs; the registry forgets it afterwards."""
    shutil.copy(Path(__file__).with_name("my_remedies.py"), tmp_path / "my_remedies.py")
    yield "my_remedies"
    REMEDIES.pop("tinkering", None)
    sys.modules.pop("my_remedies", None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--remedy", "pfo", "redo", "--pfo.coef", "10", "--redo.threshold", "0.2"],
        ["--remedy", "pfo", "--pfo.coef", "10", "--remedy", "redo", "--redo.threshold=0.2"],
        ["--redo.threshold", "0.2", "--pfo.coef=10", "--remedy=pfo", "--remedy=redo"],
    ],
)
def test_several_remedies_may_be_given_at_once_or_one_by_one(arguments):
    line = take_remedies(["Hopper-v4", *arguments, "--steps", "-5", "--hidden", "8", "8"])
    assert line.rest == ["Hopper-v4", "--steps", "-5", "--hidden", "8", "8"]
    assert make_remedies(line, "ev train") == (PFO(coef=10.0), ReDo(threshold=0.2))


def test_a_field_takes_no_more_than_its_values_so_that_the_task_may_follow(third_party, ev):
    assert take_remedies(["--remedy", "pfo", "--pfo.coef", "10", "Hopper-v4"]).rest == ["Hopper-v4"]
    assert take_remedies(["--remedy", "pfo", "--pfo.coef=10", "Hopper-v4"]).rest == ["Hopper-v4"]
    arguments = [
        "--tinkering.layers",
        "3",
        "4",
        "--tinkering.loudly",
        "Hopper-v4",
        "--steps",
        "4096",
        "--dry-run",
    ]
    answer = ev("train", "--import", third_party, "--remedy", "tinkering", *arguments)
    found = settings(answer)
    assert found["task"] == "Hopper-v4"
    assert found["remedies"] == [{"_type": "Tinkering", "strength": 0.5, "loudly": True, "layers": [3, 4]}]


def test_without_the_option_nothing_is_said_of_remedies():
    assert remedies_of("Hopper-v4", "--epochs", "3") is None
    assert remedies_of("--remedy", "none") == ()


def test_every_field_of_every_remedy_can_be_given_as_it_is_by_default():
    import dataclasses

    for name, cls in REMEDIES.items():
        fields = [
            (field.name.replace("_", "-"), getattr(cls(), field.name)) for field in dataclasses.fields(cls)
        ]
        given = []
        for field, value in fields:
            flag = f"--{name}.{field}"
            if isinstance(value, bool):
                given.append(flag if value else f"--{name}.no-{field}")
            else:
                given += [flag, *map(str, value if isinstance(value, tuple) else (value,))]
        assert remedies_of("--remedy", name, *given) == (cls(),)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--remedy", "pof"], "remedy = 'pof': unknown; did you mean pfo"),
        (["--remedy", "xyzzy"], "remedy = 'xyzzy': unknown; known are adam-beta2"),
        (["--remedy"], "--remedy: its value is missing; it must be one or more remedies"),
        (["--remedy", "pfo", "--remedy", "pfo"], "remedy = 'pfo': given twice; give it once with all its fields"),
        (["--remedy", "none", "pfo"], "remedy = 'none': takes all remedies away"),
        (["--remedy", "pfo", "--pfo.cof", "1"], "unknown option --pfo.cof; did you mean --pfo.coef?"),
        (["--remedy", "pfo", "--pof.coef", "1"], "remedy = 'pof': unknown; did you mean pfo"),
        (["--remedy", "redo", "--pfo.coef", "1"], "--pfo.coef: pfo is not among the remedies; add --remedy pfo"),
        (["--pfo.coef", "1"], "--pfo.coef: pfo is not among the remedies; add --remedy pfo"),
        (["--remedy", "adam-reset", "--adam-reset.x", "1"], "unknown option --adam-reset.x"),
        (["--remedy", "pfo", "--pfo.coef"], "--pfo.coef: its value is missing; it must be a number"),
        (["--remedy", "pfo", "--pfo.coef", "x"], "pfo.coef = 'x': must be a number; see ev train --remedy pfo --help"),
        (["--remedy", "pfo", "--pfo.coef", "-1"], "pfo.coef = -1.0: must be a finite number of at least 0"),
        (["--remedy", "pfo", "--pfo.layers", "some"], "pfo.layers = 'some': must be one of last, all"),
        (["--remedy", "escort"], "remedy = 'escort': must be left out: Hopper-v4 has continuous actions"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line_and_leaves_nothing(refused, arguments, line):
    assert refused(*HOPPER, *arguments).startswith(f"ev: {line}")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--remedy", "escort", "--head", "softmax"], "head = 'softmax': --remedy escort sets it to 'escort'"),
        (["--remedy", "escort", "--escort-p", "4"], "escort-p = 4.0: --remedy escort sets it to 2.0"),
        (["--remedy", "pfo", "layer-norm", "--no-layer-norm"],
         "layer-norm = False: --remedy layer-norm sets it to True"),
    ],
)  # fmt: skip
def test_a_remedy_does_not_override_an_option_in_silence(refused, arguments, line):
    said = refused("train", "CartPole-v1", "--steps", "4096", *arguments)
    assert said == f"ev: {line}; leave one of the two out"


def test_an_option_that_says_what_the_remedy_sets_may_stand_beside_it(ev):
    arguments = ["--remedy", "escort", "--escort.p", "4", "--head", "escort", "--escort-p", "4"]
    answer = ev("train", "CartPole-v1", "--steps", "4096", *arguments, "--dry-run")
    assert settings(answer)["network"]["escort_p"] == 4.0


def test_remedies_stay_with_config_unless_others_are_given(ev, tmp_path):
    document = ev(*HOPPER, "--remedy", "pfo", "--pfo.coef", "10", "--epochs", "3", "--dry-run").out
    (tmp_path / "spec.json").write_text(json.dumps(json.JSONDecoder().raw_decode(document)[0]))
    config = ["train", "Hopper-v4", "--config", "spec.json", "--dry-run"]
    kept = settings(ev(*config))
    assert kept["remedies"] == [
        {"_type": "PFO", "coef": 10.0, "layers": "last", "reduction": "mean", "distance": "l2", "limit": None}
    ]
    assert kept["optimizer"]["epochs"] == 3
    replaced = settings(ev(*config, "--remedy", "kl-early-stop"))
    assert [remedy["_type"] for remedy in replaced["remedies"]] == ["KLEarlyStop"]
    assert settings(ev(*config, "--remedy", "none"))["remedies"] == []


def test_what_a_remedy_had_set_stays_when_it_is_taken_away_and_that_is_said(ev, tmp_path):
    document = ev(*HOPPER, "--remedy", "entropy-schedule", "--dry-run").out
    (tmp_path / "spec.json").write_text(json.dumps(json.JSONDecoder().raw_decode(document)[0]))
    config = ["train", "Hopper-v4", "--config", "spec.json", "--dry-run"]
    answer = ev(*config, "--remedy", "none")
    assert settings(answer)["objective"]["entropy_coef"] == 0.0
    assert answer.err == "ev: what --remedy entropy-schedule had set stays; see --dry-run\n"
    assert ev(*config, "--remedy", "entropy-schedule", "--entropy-schedule.start", "0.1").err == ""


def test_a_remedy_that_is_a_setting_is_that_setting(ev):
    one = ev(*HOPPER, "--remedy", "adam-beta2", "--adam-beta2.value", "0.9", "--dry-run")
    other = ev(*HOPPER, "--adam-beta2", "0.9", "--dry-run")
    assert one.out == other.out


def test_a_spec_with_a_strangers_remedy_is_refused_until_its_module_is_imported(
    ev, refused, third_party, tmp_path
):
    document = ev("train", "Hopper-v4", "--import", third_party, "--remedy", "tinkering", "--dry-run").out
    (tmp_path / "spec.json").write_text(json.dumps(json.JSONDecoder().raw_decode(document)[0]))
    REMEDIES.pop("tinkering")
    sys.modules.pop("my_remedies")
    config = ["train", "Hopper-v4", "--config", "spec.json", "--dry-run"]
    assert "remedies = 'Tinkering': spec.json has a remedy that is not registered here" in refused(*config)
    again = settings(ev(*config, "--import", third_party))
    assert again["remedies"][0]["_type"] == "Tinkering"


def test_the_list_is_the_registry_with_a_line_on_each(ev, third_party):
    from_source = summaries()
    for name, cls in REMEDIES.items():
        assert from_source[name] == first_line(cls)
    assert set(from_source) == set(REMEDIES)
    answer = ev("remedies", "--import", third_party)
    lines = dict(re.findall(r"^  ([\w-]+) +(.*)$", answer.out, re.MULTILINE))
    assert lines == from_source | {"tinkering": "Do nothing, in a way of one's own."}
    for arguments in (["train", "--help"], ["branch", "--help"]):
        assert answer.out.splitlines()[1] in ev(*arguments).out.splitlines()


def test_the_list_read_from_source_is_what_the_registry_says(monkeypatch):
    monkeypatch.delitem(sys.modules, "escapevelocity.ppo.remedies.registry")
    assert summaries() == {name: first_line(cls) for name, cls in REMEDIES.items()}


@pytest.mark.parametrize(
    "arguments",
    [
        ["remedies", "pfo", "kl-early-stop"],
        ["train", "--help", "--remedy", "pfo", "kl-early-stop"],
        ["branch", "--remedy", "pfo", "kl-early-stop", "-h"],
    ],
)
def test_the_fields_of_a_remedy_are_shown_with_meaning_and_default(ev, arguments):
    answer = ev(*arguments)
    assert (answer.code, answer.err) == (0, "")
    text = " ".join(re.sub(r"[│|╭╮╰╯─]", " ", answer.out).split())
    assert (
        "--pfo.coef FLOAT Weight of the penalty; published: Atari 1 (last), 10 (all); MuJoCo 1 (tanh)" in text
    )
    assert f"(default: {PFO().coef})" in text
    assert "--kl-early-stop.limit" in text
    assert f"(default: {KLEarlyStop().limit})" in text
    assert first_line(PFO)[:60] in text
    assert "--remedy pfo kl-early-stop [-h] [OPTIONS]" in text


def test_an_unknown_remedy_is_refused_by_the_list_too(refused):
    assert refused("remedies", "pof").startswith("ev: remedy = 'pof': unknown; did you mean pfo")
    with pytest.raises(UserError, match="unknown; did you mean redo"):
        take_remedies(["--rdo.threshold", "1"])
