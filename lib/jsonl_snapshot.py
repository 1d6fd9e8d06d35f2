"""python -m jsonl_snapshot: run the tool of that name"""
import os
import runpy

if __name__ == "__main__":
    here = os.path.dirname(os.path.realpath(__file__))
    path = os.path.join(here, "csb_tools", "bin", "jsonl_snapshot")
    if not os.path.isfile(path):        # not put here by pip: this is lib/ of a clone
        path = os.path.join(here, os.pardir, "bin", "jsonl_snapshot")
    runpy.run_path(path, run_name="__main__")
