from brainpretrain import prediction


def test_classes_are_written_as_values_of_the_label_file():
    assert list(prediction.class_values({"enhancing": [4], "cortex": [1002, 2002]})) == [0, 4, 1002]
