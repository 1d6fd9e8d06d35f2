"""work on a list of tasks on several cores, each of which has its own process

    for task, item in in_parallel(tasks, work):
        ...                     what work(task) yields, in the order of the tasks

Processes are forked, so that work() and the tasks may be of any kind. What work()
yields is handed over, and is made of plain values: numbers, texts, bytes, tuples,
lists, dicts. Where there is no fork all is done here.
"""
import marshal
import os

from csb import DONE, FAILED, Error
from csb.files import widen

_SMALL_WORK = 4 << 20           # bytes; for less another process is not worth it
_MOST_PROCESSES = 4
_BUFFER_SIZE = 1 << 16          # bytes
_LENGTH_SIZE = 4                # bytes of the length in front of what is handed over

_DONE_ITEM = 0
_END_OF_TASK = 1
_FAILURE = 2


def in_parallel(tasks, work):
    """Yield (task, item) for each item that work(task) yields, in the order of tasks.

    A task has a size, in bytes. Error with what went wrong in any of them.
    """
    count = min(os.cpu_count() or 1, _MOST_PROCESSES, len(tasks))
    whole = sum(task.size for task in tasks)
    if count < 2 or whole < _SMALL_WORK or not hasattr(os, "fork"):
        for task in tasks:
            for item in work(task):
                yield task, item
        return

    shares = [[] for _ in range(count)]
    loads = [0] * count
    share_of = {}               # {place of a task: number of its process}
    for place in sorted(range(len(tasks)), key=lambda place: -tasks[place].size):
        share_of[place] = loads.index(min(loads))
        loads[share_of[place]] += tasks[place].size
    for place, task in enumerate(tasks):
        shares[share_of[place]].append(task)

    workers = []
    try:
        for share in shares:
            workers.append(_Worker(share, work, workers))
        for place, task in enumerate(tasks):
            for item in workers[share_of[place]].items():
                yield task, item
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that works on tasks, and waits when nobody reads what it has found."""

    def __init__(self, tasks, work, others):
        reader, writer = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            os.close(reader)
            for other in others:
                other.pipe.close()
            with open(writer, "wb", _BUFFER_SIZE) as pipe:
                os._exit(_work_on(tasks, work, pipe))   # what else is open is not ours
        os.close(writer)
        widen(reader)
        self.pipe = open(reader, "rb", _BUFFER_SIZE)

    def items(self):
        """Yield what it has found in its next task."""
        while True:
            length = int.from_bytes(self.pipe.read(_LENGTH_SIZE), "big")
            data = self.pipe.read(length)
            if not data:
                raise Error("cannot go on: one of its processes was ended")
            what, value = marshal.loads(data)
            if what == _END_OF_TASK:
                return
            if what == _FAILURE:
                raise Error(*value)
            yield value

    def end(self):
        self.pipe.close()
        os.waitpid(self.process, 0)


def _work_on(tasks, work, pipe):
    """Work on tasks, in a process of their own; its status."""

    def tell(what, value=None):
        data = marshal.dumps((what, value))
        pipe.write(len(data).to_bytes(_LENGTH_SIZE, "big") + data)

    try:
        try:
            for task in tasks:
                for item in work(task):
                    tell(_DONE_ITEM, item)
                tell(_END_OF_TASK)
                pipe.flush()
        except Error as error:
            tell(_FAILURE, (str(error), error.status))
        except Exception as error:
            tell(_FAILURE, (f"cannot go on: {type(error).__name__}: {error}", FAILED))
        pipe.flush()
    except (BrokenPipeError, KeyboardInterrupt):
        return FAILED           # nobody reads any more
    return DONE
