from tasks.quantize.trained import worthwhile


def test_a_layer_that_saves_less_than_two_thousandths_stays_as_it_is():
    assert worthwhile({"first": 1, "middle": 997, "last": 2}) == {"middle": 997, "last": 2}
