"""python -m session_snapshot: run the tool of that name, of the package or in ../bin"""
import os
import runpy

if __name__ == "__main__":
    here = os.path.dirname(os.path.realpath(__file__))
    packed = os.path.join(here, "csb_tools", "bin", "session_snapshot")
    beside = os.path.join(here, os.pardir, "bin", "session_snapshot")
    runpy.run_path(packed if os.path.isfile(packed) else beside, run_name="__main__")
