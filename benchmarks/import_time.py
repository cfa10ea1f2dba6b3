"""What importing weightprior costs, against importing numpyro.

Fresh interpreters take turns, so that a slow spell of the machine hits both. The second pair is
the first fit function, which loads xarray and the sampler's library too.
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 10
OURS = {
    "import weightprior": "import weightprior",
    "weightprior.BNN": "import weightprior; weightprior.BNN",
    "weightprior.fit_mcmc": "import weightprior; weightprior.fit_mcmc",
}
PEER = "import numpyro"


def seconds(code: str) -> float:
    """Wall-clock time of a fresh interpreter that runs the code."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Print the ratios and their spread."""
    seconds(PEER)  # fills the caches of the file system
    for name, code in OURS.items():
        pairs = [(seconds(code), seconds(PEER)) for _ in range(ROUNDS)]
        ours, peer = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratios = sorted(a / b for a, b in pairs)
        print(
            f"{name:22} {ours:5.2f} s, {PEER} {peer:5.2f} s: ratio "
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}, {ROUNDS} pairs)"
        )


if __name__ == "__main__":
    main()
