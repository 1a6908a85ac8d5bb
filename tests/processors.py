"""`make processors`: the tests of all numbers, as other processors would compute them.

    python tests/processors.py ["SETTING; SETTING ..."] [-- arguments of pytest]

A setting takes instructions away from the libraries, or changes the number of threads; none can add what a processor lacks. Instructions
for matrices (AMX) therefore need an Intel Xeon that has them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
# folders and files of tests whose expectations are numbers
NUMBERS = [
    *("augment", "backbones", "decoders", "evaluation", "preprocess", "pretext", "weights"),
    *(
        f"training/test_{name}.py"
        for name in ("execution", "finetune", "losses", "modules", "phases", "pretrain", "run", "samples")
    ),
]
# of the processors before 2013, before AVX2
OLD = {
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "NUMBA_CPU_NAME": "nehalem",
}
# of those without AVX512
AVX2 = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "NUMBA_CPU_NAME": "haswell",
}
SETTINGS = {
    "as it is": {},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "AVX2": AVX2,
    "AVX2, two threads": AVX2 | {"OMP_NUM_THREADS": "2"},
    "SSE4": OLD,
    "AVX512 without bf16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "without oneDNN": {"PYTHONPATH": str(ROOT / "tests" / "support" / "without_onednn")},
}


def main(words: list[str]) -> int:
    split = words.index("--") if "--" in words else len(words)
    asked, more = [name.strip() for word in words[:split] for name in word.split(";")], words[split + 1 :]
    if unknown := set(asked) - set(SETTINGS):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are: {'; '.join(SETTINGS)}")
    chosen, failed = asked or list(SETTINGS), 0
    for name in chosen:
        line = [sys.executable, "-m", "pytest", "-q", *(f"tests/{part}" for part in NUMBERS), *more]
        begun = time.monotonic()
        done = subprocess.run(line, cwd=ROOT, env=os.environ | SETTINGS[name], capture_output=True, text=True)
        failed += done.returncode != 0
        lines = done.stdout.splitlines()
        print(f"{name:20} {time.monotonic() - begun:5.0f} s  {lines[-1] if lines else done.stderr[-500:]}")
        for text in lines:
            if text.startswith(("FAILED", "ERROR")):
                print(f"    {text}")
        sys.stdout.flush()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
