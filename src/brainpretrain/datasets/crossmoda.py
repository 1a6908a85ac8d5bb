"""crossMoDA: vestibular schwannoma and cochlea, labelled on contrast-enhanced T1w; high-resolution T2w without labels."""

from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern

DATASET = Dataset(
    name="crossmoda",
    title="crossMoDA 2022",
    access="auto",
    page="https://zenodo.org/records/6504722",
    licence="CC BY-NC-SA 4.0",
    licence_url="https://creativecommons.org/licenses/by-nc-sa/4.0/",
    citation="Dorent et al., Med Image Anal 2023, doi:10.1016/j.media.2022.102628",
    redistribution=True,
    archives=(
        Archive(
            name="crossmoda2022_training.zip",
            url="https://zenodo.org/records/6504722/files/crossmoda2022_training.zip",
            sha256="d3db17e04fd7b4c7bfc8cd569f63e01953cc3a218d5bc754f916729483ef0cdb",
            md5="8d68fcd44eaee6b0a4371ce344e775cd",
        ),
    ),
    layouts=(
        Layout(
            name="2022",
            patterns=(
                Pattern(
                    image=r"training_source/(?P<subject>crossmoda\d+_(?P<site>[a-z]+)_\d+)_ceT1",
                    subset="train",
                    sequence="T1ce",
                    label="{top}training_source/{subject}_Label",
                ),
                Pattern(
                    image=r"training_target/(?P<subject>crossmoda\d+_(?P<site>[a-z]+)_\d+)_hrT2",
                    subset="unlabelled",
                    sequence="T2w",
                ),
            ),
            examples=(
                "training_source/crossmoda2022_ldn_1_ceT1.nii.gz",
                "training_source/crossmoda2022_ldn_1_Label.nii.gz",
                "training_target/crossmoda2022_etz_106_hrT2.nii.gz",
            ),
        ),
        Layout(
            name="2021",
            patterns=(
                Pattern(
                    image=r"source_training/(?P<subject>crossmoda_\d+)_ceT1",
                    subset="train",
                    sequence="T1ce",
                    label="{top}source_training/{subject}_Label",
                ),
                Pattern(image=r"target_training/(?P<subject>crossmoda_\d+)_hrT2", subset="unlabelled", sequence="T2w"),
            ),
            examples=(
                "source_training/crossmoda_1_ceT1.nii.gz",
                "source_training/crossmoda_1_Label.nii.gz",
                "target_training/crossmoda_106_hrT2.nii.gz",
            ),
        ),
    ),
    labels={1: "vestibular_schwannoma", 2: "cochlea"},
    label_sequences=("T1ce",),
    # Of the release of 2022: 210 volumes of each sequence, from different patients.
    expected={"subjects": 420, "volumes": 420},
    n_shards=2,
)
