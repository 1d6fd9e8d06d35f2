"""python -m session_snapshot: run the tool of that name"""
import os
import runpy

if __name__ == "__main__":
    here = os.path.dirname(os.path.realpath(__file__))
    path = os.path.join(here, "csb_tools", "bin", "session_snapshot")
    if not os.path.isfile(path):        # not put here by pip: this is lib/ of a clone
        path = os.path.join(here, os.pardir, "bin", "session_snapshot")
    runpy.run_path(path, run_name="__main__")
