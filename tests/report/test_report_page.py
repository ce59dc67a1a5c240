"""The report page: what it says of a run, and that its HTML is whole, alone and harmless."""

import base64
import dataclasses
import hashlib
import json
import os
import re
from html.parser import HTMLParser

import pytest

from dashboard_stores import HOSTILE, IMAGE, write_run
from escapevelocity.health.diagnosis import combine
from escapevelocity.health.signs import Sign
from escapevelocity.health.verdict import Verdict
from escapevelocity.health.watch import Onset
from escapevelocity.ppo.presets import preset_spec
from escapevelocity.report._panels import PANELS
from escapevelocity.report.charts import Chart, Line
from escapevelocity.report.diagnosis import diagnose_run
from escapevelocity.report.page import Cell, Heading, Page, Part, Table, render
from escapevelocity.report.page_curves import charts_of, traced_run
from escapevelocity.report.page_parts import (
    differences_table,
    environment_part,
    evidence_part,
    settings_parts,
)
from escapevelocity.report.page_verdict import verdict_card
from escapevelocity.report.page_words import TRY_WORDS, WORDS
from escapevelocity.runs import canonical_json, open_run

FIRST = 0  # Of `rows`: dead neurons are there from the first batch on.


@pytest.fixture(scope="module", autouse=True)
def no_fsync():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return open_run(write_run(tmp_path_factory.mktemp("runs") / "sound", batches=60, seeds=(1, 2, 3)))


@pytest.fixture(scope="module")
def sick(tmp_path_factory):
    return open_run(write_run(tmp_path_factory.mktemp("runs") / "sick", batches=60, dead=60.0, epochs=20))


def card_of(run, commands=()):
    return verdict_card(run, diagnose_run(run), run.path.name, 0, commands)


class Seen(HTMLParser):
    """Collects what a page would load, and its tags."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.scripts, self.addresses, self.ids, self.open = [], [], [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.addresses += [given[name] for name in ("src", "href") if name in given]
        self.ids += [given["id"]] if "id" in given else []
        if tag == "script":
            self.open = given.get("type", "")
            self.scripts.append((self.open, ""))

    def handle_endtag(self, tag):
        if tag == "script":
            self.open = None

    def handle_data(self, data):
        if self.open is not None:
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)


def page_of(*parts, title="A run", cards=()):
    return Page(title, "Report", "", (), tuple(cards), tuple(parts), "foot")


CHART = Chart("r", "Return", "reward", "What it is", (Line("a", 0, [1.0, 2.0], [1.0, 2.0]),))


def test_every_verdict_has_plain_words_and_a_tone_that_fits():
    assert set(WORDS) == set(Verdict)
    good = {verdict for verdict, words in WORDS.items() if words.tone == "good"}
    assert good == {Verdict.HEALTHY, Verdict.LEARNING}
    assert all(words.answer.startswith("Yes") == (words.tone == "good") for words in WORDS.values())


def test_a_sick_run_is_told_so_with_why_since_when_and_what_to_try(sick):
    card = card_of(sick, [("fewer-epochs", "ev train Hopper-v4 --epochs 10")])
    assert (card.tone, card.answer, card.verdict) == ("bad", "No", "representation collapse")
    assert card.seeds_told == "in 2 of 2 seeds"
    assert card.seeds == ()  # They agree: no list of them is needed.
    assert "60 of 64 neurons dead" in card.why[0]
    assert card.why[0].endswith("; at step 2,048).")
    assert card.why_of == "seed 1"
    assert card.since == "Step 2,048 (2% of the run, seed 1): dead neurons"
    assert card.tries == (("Go over each batch fewer times", "ev train Hopper-v4 --epochs 10"),)
    row = card.onsets[0]
    assert (row.sign, row.step, row.seeds, row.lasts_told) == (
        "dead neurons",
        2048,
        "1 2",
        "yes, in 2 of 2 seeds",
    )


def test_when_it_began_names_the_first_sign_and_what_the_verdict_is_named_after(sick):
    first = Onset(Sign.TRUST_REGION_LEFT, 1, 2048, 6144, "trust/kl 2, above 1")
    dead = Onset(Sign.DEAD_NEURONS, 2, 8192, 12288, "36 of 64 neurons dead, 0 at the start")
    later = dataclasses.replace(dead, seed=1, step=10240)
    found = diagnose_run(sick)
    members = [
        dataclasses.replace(member, onsets=onsets)
        for member, onsets in zip(found.members, ((first, later), (dead,)), strict=True)
    ]
    card = verdict_card(sick, combine(members), "run", 0, [])
    assert card.since == (
        "Step 2,048 (2% of the run, seed 1): outside the trust region; step 8,192 (7% of the run, seed 2): dead neurons"
    )


def test_every_remedy_that_is_advised_is_told_in_words():
    from escapevelocity.cli._remedies import _OPTIONS, _SAMPLER_OPTIONS

    assert set(TRY_WORDS) == {*_OPTIONS, *_SAMPLER_OPTIONS}


def test_a_sound_run_is_not_frightened_with_signs(sound):
    card = card_of(sound)
    assert (card.tone, card.answer, card.since) == ("good", "Yes, so far", "")
    assert (card.why, card.why_of) == (("No sign of illness, and the return still rises.",), "")


def test_an_unfinished_run_says_so(tmp_path):
    path = write_run(tmp_path / "cut", batches=30, total=60, state="interrupted", why="stopped by SIGINT")
    (note,) = card_of(open_run(path)).notes
    assert note == (
        "The run is interrupted (stopped by SIGINT), 50% done: this is about the part that was recorded."
    )


def test_seeds_that_differ_are_listed_by_verdict(tmp_path):
    from escapevelocity.health.diagnosis import combine, diagnose

    run = open_run(write_run(tmp_path / "run", batches=60))
    columns = run.records().to_pydict()
    own = [diagnose(columns, None, seed) for seed in (1, 2)]
    ill = own[1].__class__(**{**vars(own[1]), "verdict": Verdict.PLATEAU})
    card = verdict_card(run, combine([own[0], ill]), "run", 0, [])
    assert {seed.seeds for seed in card.seeds} == {"seed 1", "seed 2"}


def test_evidence_names_the_sign_and_what_would_refute_it(sick):
    onsets, relied = evidence_part([card_of(sick)]).tables
    assert onsets.rows[0][0].text == "dead neurons"
    assert "probe network" in relied.rows[0][2].text


def test_settings_are_told_against_the_preset(sick, sound):
    differing, everything = settings_parts([sound, sick], ["sound", "sick"])
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in differing.tables[0].rows}
    assert rows["optimizer.epochs"] == ["10", "20", "10"]
    assert "network.activation" not in rows
    assert "network.activation" in {row[0].text for row in everything.tables[0].rows}
    table = differences_table([sound, sick], ["sound", "sick"])
    assert table is not None
    assert {row[0].text for row in table.rows} == {"optimizer.epochs", "seeds"}
    assert differences_table([sick, sick], ["a", "b"]) is None


def test_settings_of_runs_of_two_presets_are_each_told_against_its_own(tmp_path):
    given = preset_spec("mujoco", "Hopper-v4", False)
    first = dataclasses.replace(given, optimizer=dataclasses.replace(given.optimizer, epochs=5))
    second = preset_spec("classic", "CartPole-v1", True)
    assert given.optimizer.epochs != second.optimizer.epochs
    runs = []
    for name, spec in (("a", first), ("b", second)):
        path = write_run(tmp_path / name)
        (path / "spec.json").write_text(canonical_json(spec, "ppo"))
        runs.append(open_run(path))
    differing, _ = settings_parts(runs, ["a", "b"])
    (table,) = differing.tables
    (row,) = (row for row in table.rows if row[0].text == "optimizer.epochs")
    own = str(second.optimizer.epochs)
    assert [cell.text for cell in row[1:]] == ["5", own, f"{given.optimizer.epochs} or {own}"]
    assert [cell.tone for cell in row[1:3]] == ["unsure", ""]


def test_the_environment_says_so_where_provenance_is_missing(sick):
    (table,) = environment_part([sick], ["sick"]).tables
    rows = {row[0].text: row[1].text for row in table.rows}
    assert rows["provenance"] == "provenance.json is missing or damaged"
    assert rows["spec hash"] == "x"
    assert rows["steps per seed"] == "122,880 of 122,880"


def test_curves_have_a_thin_line_per_seed_and_a_band_around_the_middle(sound, sick):
    traced = [traced_run(sound, "sound", 0), traced_run(sick, "sick", 1, diagnose_run(sick))]
    charts = {chart.title: chart for chart in charts_of(traced, PANELS, "ppo")}
    returns = charts["Return"].lines
    assert [(line.group, line.thin) for line in returns] == [(0, True)] * 3 + [
        (0, False),
        (1, True),
        (1, True),
        (1, False),
    ]
    assert returns[3].low is not None
    assert [mark.label for mark in charts["Actor dead neurons"].marks] == ["dead neurons"]
    assert charts["Actor dead neurons"].healthy == (None, 32)
    assert {"Ratios above 1 + ε", "Ratios below 1 − ε"} <= set(charts)


def test_the_page_asks_nothing_of_any_network_and_carries_plotly_once():
    html = render(page_of(Part("curves", "Curves", charts=(CHART,))))
    seen = Seen(html)
    assert all(address.startswith("#") for address in seen.addresses)
    assert not {"link", "img", "iframe", "object", "embed"} & set(seen.tags)
    assert sum("plotly.js v" in text for _, text in seen.scripts) == 1
    assert len(seen.ids) == len(set(seen.ids))
    assert "chart-r" in seen.ids
    (data,) = (text for kind, text in seen.scripts if kind == "application/json")
    assert json.loads(data)[0]["series"][0]["y"] == [1, 2]


def test_only_our_own_scripts_may_run():
    html = render(page_of(Part("curves", "Curves", charts=(CHART,))))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    allowed = set(re.findall(r"sha256-([\w+/=]+)", policy[1]))
    found = {
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for kind, text in Seen(html).scripts
        if kind == ""
    }
    assert found == allowed
    script_rule = next(rule for rule in policy[1].split(";") if rule.strip().startswith("script-src"))
    assert "unsafe" not in script_rule
    assert policy[1].startswith("default-src 'none'")


def test_a_page_without_charts_leaves_plotly_out():
    assert len(render(page_of(Part("text", "Text", "nothing")))) < 100_000


@pytest.mark.parametrize("text", [HOSTILE, IMAGE, "{{ 7 * 7 }}", "</style></title>", "\u2028&amp;\"'"])
def test_text_from_disk_is_text_wherever_it_stands(text):
    head = (Heading(text, text), Heading("x"))
    table = Table(text, head, ((Cell(text, code=True, below=text), Cell(text, group=1)),))
    part = Part(
        "p", text, text, ((0, text), (1, text)), (CHART._replace(title=text, help=text),), (table,), (text,)
    )
    before = Seen(
        render(
            page_of(
                Part(
                    "p",
                    "x",
                    "x",
                    ((0, "x"), (1, "x")),
                    (CHART,),
                    (
                        Table(
                            "x",
                            (Heading("x", "x"), Heading("x")),
                            ((Cell("x", code=True, below="x"), Cell("x", group=1)),),
                        ),
                    ),
                    ("x",),
                )
            )
        )
    )
    after = Seen(render(page_of(part, title=text)))
    assert after.tags == before.tags
    assert after.ids == before.ids
