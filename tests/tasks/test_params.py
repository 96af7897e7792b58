from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from tasks import params as p
from tasks.params import Params, load_params

ROOT = Path(__file__).parents[2]
MINIMAL = """
ingest: {source: {factory: "tasks.data.sources:digits"}}
coreset: {method: k_center, fraction: 0.5}
teacher: {model: {factory: "tasks.models.cnn:CNN"}}
distill: {model: {factory: "tasks.models.cnn:CNN"}}
prune: {pattern: channel, target: {macs: 0.5}}
"""


@pytest.fixture
def load(tmp_path):
    """Read the minimal file after replacing its `old` by `new`, or with `new` at its end."""

    def load(new="", old=None):
        text = MINIMAL + new if old is None else MINIMAL.replace(old, new)
        assert text != MINIMAL or not new
        (tmp_path / "params.yaml").write_text(text)
        return load_params(tmp_path / "params.yaml")

    return load


def test_the_demo_and_the_minimal_file_are_valid(load):
    assert load().seed == 0
    assert isinstance(load_params(ROOT / "params.yaml"), Params)


def test_defaults_fill_what_is_left_out(load):
    found = load()
    assert found.section("budget") == p.Budget() and found.section("validate") == p.Validate()
    assert found.section("register") == found.register_ and found.distill.losses == (p.Kd(method="kd"),)


@pytest.mark.parametrize("written", ["1e-3", "0.001", "1.0e-3", "1E-3"])
def test_a_rate_without_a_dot_is_still_a_number(load, written):
    model = '{model: {factory: "tasks.models.cnn:CNN"}'
    found = load(f"teacher: {model}, train: {{lr: {written}}}}}", f"teacher: {model}}}")
    assert found.teacher.train.lr == 0.001


def test_a_whole_number_will_do_where_a_float_is_wanted(load):
    assert load("evaluate: {latency_runs: 3}\nbudget: {max_accuracy_drop: 0}").budget.max_accuracy_drop == 0


BUDGET = "coreset: {method: k_center, fraction: 0.5}"
ONE_BUDGET = "coreset.k_center: give exactly one of fraction and per_class"


@pytest.mark.parametrize(
    ("new", "old", "message"),
    [
        ("sede: 1", None, "unknown key sede"),
        ("split: {tset: 0.2}", None, "unknown key split.tset"),
        ("tracking: {enabled: maybe}", None, "tracking.enabled is 'maybe': input should be a valid boolean"),
        ("seed: '7'", None, "seed is '7': input should be a valid integer"),
        ("seed: 1.5", None, "seed is 1.5: input should be a valid integer"),
        ("seed: -1", None, "seed is -1: input should be greater than or equal to 0"),
        ("split: {test: 1.4}", None, "split.test is 1.4: input should be less than 1"),
        ("split: {test: 0.6, validation: 0.4}", None, "split: test 0.6 + validation 0.4 must be below 1"),
        ("coreset: {method: k_center}", BUDGET, ONE_BUDGET),
        ("coreset: {method: k_center, fraction: 0.5, per_class: 5}", BUDGET, ONE_BUDGET),
        ("coreset: {method: k_center, fraction: 0.0}", BUDGET, "fraction is 0.0: input should be greater than 0"),
        (
            "coreset: {method: k_centre, fraction: 0.5}",
            BUDGET,
            "coreset.method is 'k_centre'; it must be one of 'random', 'stratified', 'k_means', 'herding', 'k_center'",
        ),
        ("coreset: {fraction: 0.5}", BUDGET, "coreset lacks its method; `downsize list` shows what there is"),
        (
            "quantize: {calibration: {method: max}}",
            None,
            "quantize.int8.calibration.method is 'max'; it must be one of ",
        ),
        (
            "quantize: {scheme: int4}",
            None,
            "quantize.scheme is 'int4'; it must be one of 'int8', 'int8_dynamic', 'int8_symmetric'",
        ),
        ("channel, target: {sparsity: 0.5}", "channel, target: {macs: 0.5}", "unknown key prune.channel.target.spars"),
        (
            "pattern: rows",
            "pattern: channel",
            "prune.pattern is 'rows'; it must be one of 'channel', 'head', 'layer', 'unstructured'",
        ),
        ("tasks.models.cnn.CNN", "tasks.models.cnn:CNN", "teacher.model.factory is 'tasks.models.cnn.CNN': "),
        ("", "prune: {pattern: channel, target: {macs: 0.5}}", "prune is missing"),
    ],
)
def test_mistakes_name_the_field_its_value_and_what_would_do(load, new, old, message):
    with pytest.raises(ValueError) as caught:
        load(new, old)
    text = str(caught.value)
    assert message in text and "params.yaml: " in text and "\n" not in text


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ("[{method: kd, weight: 0}]", "params.yaml: distill.losses.0.kd.weight is 0: input should be greater than 0"),
        ("[]", "params.yaml: distill.losses: tuple should have at least 1 item after validation, not 0"),
    ],
)
def test_a_list_is_called_too_short_only_where_it_is(load, losses, message):
    student = 'distill: {model: {factory: "tasks.models.cnn:CNN"}'
    with pytest.raises(ValueError) as caught:
        load(f"{student}, losses: {losses}}}", student + "}")
    assert str(caught.value).endswith(message)


def test_all_mistakes_come_at_once(load):
    with pytest.raises(ValueError) as caught:
        load("seed: -1\nsplit: {tset: 1}\nbudget: {max_size_bytes: 0}")
    for part in ("seed is -1", "unknown key split.tset", "budget.max_size_bytes is 0"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: [1", "not valid YAML: "),
        ("- 1\n- 2", "needs one section per stage, found list"),
        ("", "needs one section per stage, found NoneType"),
        ("seed: 1\nseed: 2", "not valid YAML: .*duplicate key"),
    ],
)
def test_a_file_that_is_no_params_file_says_why(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"params\.yaml: {message}") as caught:
        load_params(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml: no such params file"):
        load_params(tmp_path / "nowhere.yaml")


def test_a_limit_on_what_is_not_measured_is_refused(load):
    with pytest.raises(ValueError, match=r"budget: max_shifted_drop limits what evaluate.shifted measures; name a"):
        load("budget: {max_shifted_drop: 0.01}\n")
    shifted = 'evaluate: {shifted: {factory: "tasks.data.sources:digits"}}\n'
    with pytest.raises(
        ValueError, match=r"budget: max_corruption_drop limits what evaluate.corruptions measures; that"
    ):
        load("evaluate: {corruptions: null}\n")  # the limit's default counts too
    assert load("evaluate: {corruptions: null}\nbudget: {max_corruption_drop: null}\n").evaluate.corruptions is None
    assert load(shifted + "budget: {max_shifted_drop: 0.01}\n").budget.max_shifted_drop == 0.01


@pytest.mark.parametrize(
    ("quantize", "least", "kind"),
    [
        ("scheme: mixed", 21, "INT4"),
        ("scheme: qat, bits: 4", 21, "INT4"),
        ("scheme: fp8", 19, "FLOAT8E4M3FN"),
        ("scheme: qat, bits: 5", 15, ""),
        ("scheme: int4_weight_only", 15, ""),  # packed in bytes
        ("scheme: int8", 15, ""),
    ],
)
def test_an_opset_without_the_type_that_the_scheme_stores_is_refused(load, quantize, least, kind):
    text = f"quantize: {{{quantize}}}\nevaluate: {{exports: {{formats: [%s], opset: %d}}}}\n"
    scheme = quantize.split(",")[0].removeprefix("scheme: ")
    assert load(text % ("onnx", least)).evaluate.exports.opset == least
    if least > 15:
        with pytest.raises(ValueError) as caught:
            load(text % ("onnx", least - 1))
        assert str(caught.value).endswith(
            f"params.yaml: evaluate: exports.opset is {least - 1}, which has no {kind}, and quantize.scheme {scheme} "
            f"stores weights so; {least} would do"
        )
        assert load(text % ("exported_program", least - 1)).evaluate.exports.opset == least - 1


def test_params_cannot_be_changed_after_reading(load):
    with pytest.raises(ValidationError, match="frozen"):
        load().seed = 1


@pytest.mark.parametrize("family", ["Coreset", "Loss", "Criterion", "Schedule"])
def test_every_member_of_a_family_is_chosen_by_its_own_name(family):
    members = get_args(get_args(getattr(p, family))[0])
    names = [get_args(member.model_fields["method"].annotation)[0] for member in members]
    assert len(names) == len(set(names)) > 1


def test_the_demo_writes_out_only_keys_that_exist_in_pipeline_order():
    written = list(YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text()))
    fields = [field.alias or name for name, field in Params.model_fields.items()]
    assert [name for name in fields if name in written] == written


ASSISTANT = 'assistant: {model: {factory: "tasks.models.mlp:MLP"}, teaches: false}'


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("losses: [{method: at, student: body.1, teacher: body.2}]", "the module 'body.2' need answers: {mode: live}"),
        ("losses: [{method: kd}], train: {augment: {mixup: 0.2}}", "mixup and cutmix need answers: {mode: live}"),
        ("losses: auto, train: {augment: {cutmix: 0.2}}", "mixup and cutmix need answers: {mode: live}"),
        ("losses: [{method: kd}, {method: mutual}]", "name only mutual"),
        ("losses: none", "distill.losses is 'none': input should be 'auto'"),
        (ASSISTANT, "assistant.teaches is false, and no student is cut from it; set teaches: true, or model: {method"),
    ],
)
def test_what_the_teacher_s_kept_answers_cannot_give_is_refused_before_any_work(tmp_path, section, says):
    text = (Path(__file__).parents[2] / "params.smoke.yaml").read_text()
    start, _, rest = text.partition("distill:\n")
    path = tmp_path / "params.yaml"
    distill = f'distill: {{model: {{factory: "tasks.models.cnn:CNN"}}, {section}}}\n'
    path.write_text(start + distill + "prune:" + rest.partition("prune:")[2])
    with pytest.raises(ValueError) as error:
        load_params(path)
    assert says in str(error.value)


def test_a_student_cut_from_an_assistant_needs_one():
    cut = {"method": "pruned_teacher", "origin": "assistant", "target": {"macs": 0.5}}
    with pytest.raises(ValueError, match=r"model\.origin is assistant, and assistant is null; name one, or set origin"):
        p.Distill.model_validate({"model": cut})
    with pytest.raises(ValueError, match=r"origin"):
        p.Distill.model_validate({"model": {**cut, "origin": "elsewhere"}})
    found = p.Distill.model_validate({"model": cut, "assistant": {"model": {"factory": "a:B"}, "teaches": False}})
    assert found.cuts_assistant


@pytest.mark.parametrize(("method", "on_logits", "on_features"), [("sp", 30, 3000), ("rkd", 0.1, 1)])
def test_losses_of_relations_weigh_less_on_logits_than_on_features(method, on_logits, on_features):
    def weight(**given):
        section = {"model": {"factory": "a:B"}, "answers": {"mode": "live"}, "losses": [{"method": method, **given}]}
        return p.Distill.model_validate(section).losses[0].weight

    assert weight() == on_logits
    assert weight(student="a", teacher="b") == on_features
    assert weight(weight=7.0) == weight(student="a", teacher="b", weight=7.0) == 7
