"""Find a Java 17+ for Spark, or install one into the virtual environment and say so. It is never skipped silently.

``python -m tests.java`` finds or installs; ``--print`` only prints the JAVA_HOME to use.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

WANTED = 17
OWN = Path(sys.prefix) / "jre"


def major_version(java: str) -> int:
    """Return the major version, such as 17; 0 when the program does not run."""
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True).stderr
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found.group(1)) if found else 0


def java_home() -> Path | None:
    """Return the home of the first Java that is new enough: JAVA_HOME, the PATH, the virtual environment."""
    own = sorted(OWN.glob("*/bin/java"))
    candidates = [Path(os.environ["JAVA_HOME"]) / "bin" / "java"] if os.environ.get("JAVA_HOME") else []
    candidates += [Path(found)] if (found := shutil.which("java")) else []
    for java in [*candidates, *own]:
        if major_version(str(java)) >= WANTED:
            return java.resolve().parent.parent
    return None


def main() -> None:
    """Print or install."""
    home = java_home()
    if "--print" in sys.argv:
        print(home or "")
        return
    if home is None:
        import jdk

        print(f"no Java {WANTED}+ found: installing a JRE into {OWN} for the Spark tests", flush=True)
        jdk.install(str(WANTED), jre=True, path=str(OWN))
        if java_home() is None:
            raise SystemExit(f"a JRE was installed into {OWN}, but it does not run")


if __name__ == "__main__":
    main()
