"""Files of claims: what is wrong is said at once, each problem with its line and a caret."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.plan import load_plan
from orchestrator.plan.claims import ClaimFile
from orchestrator.report.claims.reader import PAPER, own_claims, paper, read_claims
from tests.sweeps import comparing, normsweep, plan_of, said_of
from trainers import own

SWEEP = comparing()
GOOD = "- {id: mine, sentence: Mine., statistic: growing, norms: [layer_norm]}\n"
DIFFERENCE = "- {id: a, sentence: A., statistic: difference, candidate: i_ln, reference: layer_norm"
SCALAR = "- {id: a, sentence: A., statistic: scalar, metric: m, norms: i_ln"


def said_of_claims(text: str) -> str:
    with pytest.raises(UserError) as caught:
        read_claims(ClaimFile(Path("mine.yaml"), text))
    return str(caught.value)


WRONG = {
    "unknown statistic": (
        GOOD.replace("growing", "groing"),
        "mine.yaml:1:42: [0].statistic: unknown statistic 'groing'. Did you mean 'growing'?",
    ),
    "no statistic": ("- {id: a, sentence: A.}\n", "mine.yaml:1:3: [0].statistic: is missing"),
    "a statistic that is no text": (
        GOOD.replace("growing", "[growing]"),
        "[0].statistic: should be a valid string",
    ),
    "unknown norm": (
        GOOD.replace("layer_norm", "iln"),
        "mine.yaml:1:59: [0].norms[0]: unknown norm 'iln'. Did you mean 'i_ln'?",
    ),
    "unknown norm of two": (
        DIFFERENCE.replace("i_ln", "iln") + "}\n",
        "[0].candidate[0]: unknown norm 'iln'. Did you mean 'i_ln'?",
    ),
    "unknown knob": (
        GOOD.replace("layer_norm", "{name: i_ln, rescal: false}"),
        "[0].norms[0].rescal: i_ln has no knob 'rescal'. Did you mean 'rescale'?",
    ),
    "a knob out of its range": (
        GOOD.replace("layer_norm", "{name: i_ln, eps: 2.0}"),
        "mine.yaml:1:77: [0].norms[0].eps: eps must be at most 1, not 2.0",
    ),
    "a class that is nowhere": (
        GOOD.replace("layer_norm", "nowhere_at_all:Norm"),
        "no module 'nowhere_at_all'",
    ),
    "no norm": (GOOD.replace("[layer_norm]", "[]"), "[0].norms: is empty: at least one value"),
    "unknown parameter": (
        GOOD.replace("norms", "margn: 0.1, norms"),
        "mine.yaml:1:51: [0].margn: unknown field 'margn'. Did you mean 'margin'?",
    ),
    "a parameter of another statistic": (
        GOOD.replace("norms", "measure: width, norms"),
        "unknown field 'measure'",
    ),
    "a number as text": (
        GOOD.replace("norms", "margin: 1e-1, norms"),
        "1e-1 is text to YAML, not a number: write 1.0e-1",
    ),
    "a number that is none": (
        GOOD.replace("norms", "margin: much, norms"),
        "[0].margin: should be a valid number",
    ),
    "infinity": (GOOD.replace("norms", "margin: .inf, norms"), "give a finite one"),
    "a margin below 0": (
        DIFFERENCE + ", margin: -0.1}\n",
        "[0].margin: should be greater than or equal to 0",
    ),
    "no margin": (
        DIFFERENCE + ", question: non_inferiority}\n",
        "mine.yaml:1:3: [0]: non_inferiority needs a margin above 0",
    ),
    "unknown question": (DIFFERENCE + ", question: better}\n", "[0].question: must be 'superior"),
    "unknown metric": (DIFFERENCE + ", metric: pnsr}\n", "unknown metric 'pnsr'. Did you mean"),
    "unknown precision": (DIFFERENCE + ", precision: int3}\n", "[0].precision: must be 'fp32'"),
    "unknown task": (GOOD.replace("norms", "tasks: sr_x5, norms"), "unknown task 'sr_x5'"),
    "unknown backbone": (
        GOOD.replace("norms", "backbones: het, norms"),
        "unknown backbone 'het'. Did you mean 'hat'?",
    ),
    "unknown measure": (
        "- {id: a, sentence: A., statistic: trend, norms: i_ln, measure: heads}\n",
        "[0].measure: must be 'width', 'depth' or 'parameters', not 'heads'",
    ),
    "no threshold": (SCALAR + "}\n", "[0]: give a threshold: either above: NUMBER or below"),
    "two thresholds": (SCALAR + ", above: 0, below: 1}\n", "give a threshold"),
    "one norm twice": (
        DIFFERENCE.replace("i_ln", "layer_norm") + "}\n",
        "candidate and reference both name layer_norm",
    ),
    "an id twice": (GOOD + GOOD, "mine.yaml:2:8: [1].id: the id 'mine' is given twice; first on"),
    "an id that is no name": (GOOD.replace("mine", "My claim"), "[0].id: 'My claim' is not a name"),
    "an id that is a number": (GOOD.replace("mine", "7"), "[0].id: should be a valid string"),
    "no id": (GOOD.replace("id: mine, ", ""), "mine.yaml:1:3: [0].id: is missing"),
    "an empty sentence": (GOOD.replace("Mine.", "''"), "[0].sentence: "),
    "a key twice": (GOOD.replace("norms", "id: b, norms"), "the key 'id' is given twice"),
    "a text": ("grow\n", "mine.yaml:1:1: a file of claims is a list of lines such as"),
    "a mapping": (GOOD[2:], "a file of claims is a list of lines such as"),
    "a list of texts": ("- grow\n", "mine.yaml:1:3: [0]: must be a mapping such as"),
    "an empty list": ("[]\n", "has 0 claims; 1 to 200 fit"),
    "too many": (GOOD * 201, "has 201 claims; 1 to 200 fit"),
    "empty": ("", "mine.yaml: is empty. A file of claims is a list of lines such as"),
    "a comment alone": ("# nothing\n", "mine.yaml: is empty."),
    "null": ("null\n", "mine.yaml: is empty."),
    "two documents": (GOOD + "---\n" + GOOD, "a second document begins here"),
    "not YAML": (GOOD.replace("]", ""), "mine.yaml:1:"),
    "deep": ("[" * 40 + "]" * 40, "is nested 17 levels deep: at most 16 are allowed"),
    "deep in a claim": (
        GOOD.replace("[layer_norm]", "[" * 12 + "]" * 12),
        "[0].norms[0]",
    ),
    "an alias": ("- &a {id: a}\n- *a\n", "an alias"),
    "a tag": ("- !!python/object:os.system {}\n", "a tag"),
    "no in place of false": (
        GOOD.replace("layer_norm", "{name: i_ln, rescale: no}"),
        "a bare no is a boolean to YAML: write false",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_its_place(name: str) -> None:
    text, said = WRONG[name]
    found = said_of_claims(text)
    assert said in found
    assert "Traceback" not in found and len(found) < 60_000
    if "empty" not in found.splitlines()[0].partition(": ")[2][:10]:
        assert found.rstrip().endswith("^"), found


def test_all_problems_are_told_at_once_in_the_files_order() -> None:
    found = said_of_claims(
        GOOD.replace("layer_norm", "iln")
        + GOOD.replace("mine", "Other").replace("growing", "groing")
        + GOOD.replace("norms", "margin: -1, norms")
    )
    heads = [line for line in found.splitlines() if line.startswith("mine.yaml:")]
    assert [head.split(": ")[1] for head in heads] == [
        "[0].norms[0]",
        "[1].id",
        "[1].statistic",
        "[2].id",
        "[2].margin",
    ]


def test_a_single_norm_needs_no_list() -> None:
    (listed,) = read_claims(ClaimFile(Path("a.yaml"), GOOD))
    (single,) = read_claims(ClaimFile(Path("a.yaml"), GOOD.replace("[layer_norm]", "layer_norm")))
    assert listed == single


def test_the_papers_claims_have_a_place_and_a_sentence() -> None:
    assert len(paper()) == len({claim.id for claim in paper()}) >= 20
    for claim in paper():
        assert claim.place.startswith(("Fig. ", "Tab. "))
        assert claim.sentence.endswith(".") and len(claim.sentence) < 90


def test_an_own_norm_is_found_beside_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "mine_norm.py").write_text("class Norm: ...\n")
    own.look_in(tmp_path)
    text = GOOD.replace("layer_norm", "mine_norm:Norm")
    (claim,) = read_claims(ClaimFile(Path("a.yaml"), text))
    assert claim.norms_named[0].name == "mine_norm:Norm"
    assert "has no 'Nrm'. Did you mean 'Norm'?" in said_of_claims(text.replace(":Norm", ":Nrm"))


# --- the field of a sweep -------------------------------------------------------------------------


def test_a_sweep_names_a_file_of_claims_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    plan = plan_of(tmp_path, SWEEP + "claims: mine.yaml\n")
    assert [claim.id for claim in own_claims(plan)] == ["mine"]


def test_claims_are_no_part_of_a_trials_identity(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    named = plan_of(tmp_path, SWEEP + "claims: mine.yaml\n")
    assert [t.id for t in named.trials] == [t.id for t in plan_of(tmp_path, SWEEP).trials]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere.yaml", "claims: {folder}/nowhere.yaml: no such file"),
        ("../mine.yaml", "claims: '../mine.yaml' is not a name of the form"),
        ("/etc/mine.yaml", "claims: '/etc/mine.yaml' is not a name of the form"),
        ("mine.txt", "claims: 'mine.txt' is not a name of the form"),
        ("folder.yaml", "claims: {folder}/folder.yaml: is a folder, not a file of claims"),
        ("bytes.yaml", "claims: {folder}/bytes.yaml:1: byte 0 is not UTF-8 text"),
        ("[mine.yaml]", "claims: should be a valid string"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_problem_of_the_sweep(
    tmp_path: Path, given: str, said: str
) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00"[:1] + b"x")
    found = said_of(tmp_path, SWEEP + f"claims: {given}\n")
    assert said.format(folder=tmp_path) in found
    assert found.rstrip().endswith("^")


def test_an_id_of_the_papers_or_of_another_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    (tmp_path / "other.yaml").write_text(GOOD.replace("Mine.", "Other."))
    plan = plan_of(tmp_path, SWEEP + "claims: mine.yaml\n")
    with pytest.raises(UserError, match=r"the id 'mine' is taken by .*other\.yaml"):
        own_claims(plan, tmp_path / "other.yaml")
    (tmp_path / "other.yaml").write_text(GOOD.replace("mine", "layer_norm_grows"))
    with pytest.raises(UserError, match="is taken by the paper's claims"):
        own_claims(plan, tmp_path / "other.yaml")


def test_the_file_of_the_flag_may_be_the_one_that_the_sweep_names(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    plan = plan_of(tmp_path, SWEEP + "claims: mine.yaml\n")
    assert len(own_claims(plan, tmp_path / "mine.yaml")) == 1


@pytest.mark.parametrize("verb", ["validate", "plan", "run", "report", "claims"])
def test_every_verb_refuses_a_wrong_file_with_exit_code_2(tmp_path: Path, verb: str) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD.replace("layer_norm", "iln"))
    sweep = tmp_path / "held.yaml"
    sweep.write_text(SWEEP + "claims: mine.yaml\n")
    done = normsweep(tmp_path, verb, sweep, expect=2)
    said = done.stdout + done.stderr
    assert "mine.yaml:1:59: [0].norms[0]: unknown norm 'iln'" in said
    assert said.rstrip().endswith("^")


def test_the_papers_file_is_written_as_users_write_theirs(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(PAPER.read_text().replace("{id: ", "{id: my_"))
    (tmp_path / "held.yaml").write_text(SWEEP + "claims: mine.yaml\n")
    assert len(own_claims(load_plan(tmp_path / "held.yaml"))) == len(paper())
