import json
from pathlib import Path

import pytest

from flows.search.space import Space, halved
from flows.search.study import distributions

ROOT = Path(__file__).parents[3]
SMOKE = (ROOT / "params.smoke.yaml").read_text().partition("search:")[0]


def space(folder, text):
    path = folder / "params.yaml"
    path.write_text(f"{SMOKE}\nsearch:\n  space:\n    {text}\n")
    return Space(path)


def test_the_file_s_own_value_is_among_the_candidates_once(tmp_path):
    found = space(tmp_path, "prune.target.macs: [0.3, 0.5]")
    assert distributions(found)["prune.target.macs"].choices == ("0.5", "0.3") and found.size() == 2


def test_a_recipe_differs_in_what_varies_and_nowhere_else(tmp_path):
    found = space(tmp_path, "distill.model.args.channels: [[8, 16]]")
    recipe, start = found.recipe({"distill.model.args.channels": [8, 16]}), found.recipe({})
    assert recipe["distill"]["model"]["args"]["channels"] == [8, 16]
    assert start["distill"]["model"]["args"]["channels"] == [24, 48] and "search" not in recipe
    recipe["distill"]["model"]["args"]["channels"] = [24, 48]
    assert recipe == start


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("coreset.fraction: [0.2]", ["teacher"]),
        ("quantize.calibration.method: [mse]\n    distill.train.epochs: [4]", ["teacher", "coreset"]),
        ("quantize.calibration.method: [mse]", ["teacher", "coreset", "distill", "prune"]),
        ("quantize.calibration.method: [mse]\n  halving: {epochs: 0.3, factor: 3}", ["teacher", "coreset"]),
    ],
)
def test_what_all_trials_share_ends_where_the_first_differs(tmp_path, text, shared):
    assert space(tmp_path, text).shared() == shared


def test_whole_sections_and_entries_of_lists_can_vary(tmp_path):
    found = space(tmp_path, "quantize: [{scheme: fp16}]\n    distill.losses.0: [{method: dist}]")
    params = found.params({"quantize": {"scheme": "fp16"}, "distill.losses.0": {"method": "dist"}}, "")
    assert params.quantize.scheme == "fp16" and params.distill.losses[0].method == "dist"


def test_values_survive_optuna_s_store(tmp_path):
    found = space(tmp_path, "quantize: [{scheme: fp16}]\n    prune.target.macs: {low: 0.2, high: 0.8, step: 0.1}")
    values = {"quantize": {"scheme": "fp16"}, "prune.target.macs": 0.3}
    assert found.decoded(json.loads(json.dumps(found.encoded(values)))) == values
    assert found.size() == 2 * 7


def test_a_whole_numbers_span_gives_whole_numbers(tmp_path):
    found = space(tmp_path, "distill.train.epochs: {low: 5, high: 20}")
    assert distributions(found)["distill.train.epochs"].to_internal_repr(7) == 7.0 and found.size() == 16


def test_halving_cuts_epochs_of_student_and_recovery_alone(tmp_path):
    found = space(tmp_path, "prune.target.macs: [0.3]")
    short = halved(found.recipe({}), 0.3)
    assert short["distill"]["train"]["epochs"] == 3 and short["prune"]["recovery"]["final"]["epochs"] == 2
    assert short["teacher"] == found.raw["teacher"]
    assert halved(found.recipe({}), 0.01)["distill"]["train"]["epochs"] == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prune.target.mac: [0.3]", "search.space names prune.target.mac, which the file does not set; prune.target"),
        ("prune.target.macs: [0.3, 1.5]", "search.space.prune.target.macs 1.5: prune.channel.target.macs is 1.5: inpu"),
        ("prune.target.macs: {low: 0.6, high: 0.8}", "prune.target.macs is 0.5, which is none of search.space"),
        ("prune.target.macs: {low: 0.1, high: 0.8, step: 0.3}", "step 0.3 must divide the way from low 0.1 to high"),
        ("prune.target.macs: {low: 0.8, high: 0.2}", "search.space.prune.target.macs: low 0.8 must be below high 0.2"),
        ("prune.target.macs: []", "search.space.prune.target.macs: tuple should have at least 1 item"),
        ("prune.target.macs: 0.3", "search.space.prune.target.macs is 0.3: input should be a valid tuple"),
        ("budget.max_accuracy_drop: [0.1]", "space names budget.max_accuracy_drop; only coreset, distill, prune, quan"),
        ("teacher.train.epochs: [9]", "space names teacher.train.epochs; only coreset"),
        ("prune.target.macs: [0.3]\n    prune.target: [{macs: 0.3}]", "prune.target.macs and prune.target, which hold"),
        ("{}", "search.space is empty; name what may vary"),
    ],
)
def test_a_wrong_space_is_refused_before_any_work(tmp_path, text, says):
    with pytest.raises(ValueError) as error:
        space(tmp_path, text)
    assert says in str(error.value) and "\n" not in str(error.value)
