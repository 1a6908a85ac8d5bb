"""The command `convert`. It has its own file, since it reads volumes."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import arg, command
from brainpretrain.download import convert as conversion
from brainpretrain.errors import UserError
from brainpretrain.words import count


@command(
    "convert",
    arg("folder", type=Path, metavar="FOLDER", help="folder of volumes, or one volume"),
    arg("--out", type=Path, metavar="DIR", help="folder for the NIfTI files (default: next to their sources)"),
)  # fmt: skip
def convert(args: argparse.Namespace) -> None:
    """Writes NRRD, MetaImage (.mha, .mhd), GIPL and FreeSurfer's .mgz as .nii.gz of the same name; existing files are kept.

    Every file is read to its end and compared with its header. DICOM is converted by dcm2niix.
    """
    if args.folder.is_file():
        target = (args.out or args.folder.parent) / f"{conversion.without_ending(args.folder.name)}.nii.gz"
        conversion.convert(args.folder, target)
        print(target)
        return
    if not args.folder.is_dir():
        raise UserError("there is no such folder or volume", where=args.folder, fix="give the folder that holds the volumes")
    files = conversion.convert_tree(args.folder, args.out or args.folder)
    print(f"{count(len(files), 'volume')} converted into {args.out or args.folder}")
