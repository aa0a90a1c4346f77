"""pawprint: the library under the stages, by subject, and the commands that people run.

`pawprint --help` lists the commands. The library imports no stage and no command.

Here is also set how long a thread of torch waits for the others before it sleeps. OpenMP reads it
when torch is imported, so it must stand in the environment before; a setting of the user's own is
left alone. GNU's OpenMP, in torch's wheels for Linux, spins 300,000 times, which is milliseconds:
beside another busy process, threads that wait then hold the cores that those they wait for need.
docs/training.md has the measurements. The results are the same to the last bit.
Source: https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html
"""

import os

SPINS = 1000  # some ten microseconds: about what waking a thread that sleeps takes
OWN_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

if not any(name in os.environ for name in OWN_SETTINGS):
    os.environ["GOMP_SPINCOUNT"] = str(SPINS)
    os.environ["KMP_BLOCKTIME"] = "1"  # milliseconds; the same for LLVM's and Intel's OpenMP
