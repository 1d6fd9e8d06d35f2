"""python -m session_snapshot: run the tool of that name"""
if __name__ == "__main__":
    try:
        from csb_tools.lib import launch  # as pip has it
    except ImportError:
        import launch  # in lib/ of a clone
    launch.session_snapshot()
