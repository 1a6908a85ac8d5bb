from brainpretrain.evaluation import bids


def test_bids_labels_are_letters_and_digits():
    assert [bids.label(text) for text in ("BraTS2021_00495", "sub-strokecase0009", "ses-0001")] == [
        "BraTS202100495",
        "strokecase0009",
        "0001",
    ]
