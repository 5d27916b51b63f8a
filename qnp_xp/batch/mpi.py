"""Jobs dealt to the ranks of MPI, and ranks to GPUs: the one module that names mpi4py.

Rank 0 deals and works. Its main thread deals, since MPI may be called from there
whatever level of threads it grants; another thread does jobs meanwhile. A counter in a
window of MPI would need no dealer, but MPICH within a node makes those who draw from it
wait until rank 0 calls MPI, which is between two files.
"""

from __future__ import annotations

import collections
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from traceback import format_exc
from typing import Any, TypeVar

from .._printing import complain, flush, show
from .._xp.threads import granted_cores, own_cores
from ..errors import USER_ERRORS, QnpError
from ..model import QuasarNP
from .jobs import Job, JobResult, RunConfig, largest_first, run_elsewhere, run_job

#: Seconds between two looks for a message. MPI's own waiting takes a core, and a look
#: takes the interpreter's lock from the root's job: a tenth of its time at 2 ms.
_PAUSE = 0.02

#: Jobs that a rank is given ahead, so that it need not wait for the root to look, as
#: long as there are as many for each.
_AHEAD = 4

#: Seconds that mpiexec is given to pass on why a rank ends: it kills all at once.
_LAST_WORDS = 1.0

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, as one of them sees them."""

    #: Communicator of them all.
    comm: Any
    #: The number of this one, and how many there are.
    rank: int
    size: int
    #: The number of this one among those of its machine.
    local: int
    #: Threads to compute in: its share of the cores that it may run on.
    threads: int

    @property
    def root(self) -> bool:
        """Whether it is the one that reads the command line, deals, and reports."""
        return self.rank == 0

    def share(self, make: Callable[[], Value]) -> Value | None:
        """Have the root make something and give it to all; None where that failed.

        What was raised goes on on the root.
        """
        made: Value | None = None
        try:
            if self.root:
                made = make()
        finally:
            made = self.comm.bcast(made, root=0)
        return made

    def agree(self, make: Callable[[], Value]) -> Value | None:
        """Have each make something; None where that failed on any of them.

        What the first of them raised is raised on the root.
        """
        made, problem = None, None
        try:
            made = make()
        except Exception as err:
            problem = str(err) or type(err).__name__
        for rank, what in enumerate(self.comm.allgather(problem)):
            if what is not None and self.root:
                msg = f"{what} (rank {rank})" if rank else what
                raise QnpError(msg)
            if what is not None:
                return None
        return made


@contextlib.contextmanager
def world() -> Iterator[Ranks]:
    """Give the ranks that were started together.

    What a rank raises ends the run of all, who would wait for it for ever; but for
    errors of the root that a user can mend, of which `Ranks.share` and `Ranks.agree`
    tell the others.
    """
    try:
        from mpi4py import MPI  # noqa: PLC0415
    except (ImportError, RuntimeError) as err:
        # A RuntimeError is what it raises where it finds no MPI library to load.
        msg = (
            "--mpi needs mpi4py and an MPI library: pip install '.[mpi]' in a checkout,"
            f" on a cluster built with its own MPI. Python says: {err}"
        )
        raise ValueError(msg) from err
    comm = MPI.COMM_WORLD
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    cores = own_cores()
    sharing = sum(not cores.isdisjoint(other) for other in node.allgather(cores))
    threads = max(1, min(granted_cores(), len(cores) // sharing))
    ranks = Ranks(comm, comm.rank, comm.size, node.rank, threads)
    node.Free()
    try:
        yield ranks
    except BaseException as err:
        if not (ranks.root and isinstance(err, USER_ERRORS)):
            _abort(ranks, err)
        raise


def _abort(ranks: Ranks, err: BaseException) -> None:
    """End all ranks; what was not foreseen, with the traceback."""
    if ranks.size > 1:
        complain(f"rank {ranks.rank} ends the run: {type(err).__name__}")
        show(format_exc() if isinstance(err, Exception) else "", "stderr")
        flush("stdout")
        flush("stderr")
        time.sleep(_LAST_WORDS)
        ranks.comm.Abort(1)


def mpi_results(
    ranks: Ranks, jobs: Sequence[Job], model: QuasarNP, config: RunConfig
) -> Generator[JobResult, None, None]:
    """Deal jobs to all ranks, on the root, while the others `serve`."""
    if ranks.size == 1:
        yield from (run_job(job, model, config) for job in jobs)
        return
    try:
        yield from _deal(ranks, jobs, model, config)
    except (GeneratorExit, *USER_ERRORS) as err:
        # The results are not taken any more, or the run would go on in `world`: the
        # others wait for jobs. What else there is ends them there, after last words.
        _abort(ranks, err)
        raise


def _deal(
    ranks: Ranks, jobs: Sequence[Job], model: QuasarNP, config: RunConfig
) -> Iterator[JobResult]:
    todo = collections.deque(largest_first(jobs))
    own: queue.SimpleQueue[JobResult | BaseException] = queue.SimpleQueue()

    def work() -> None:
        """Do jobs on the root, beside the dealing."""
        try:
            with contextlib.suppress(IndexError):
                while True:
                    own.put(run_job(todo.popleft(), model, config))
        except BaseException as err:
            own.put(err)

    threading.Thread(target=work, daemon=True).start()
    left = len(jobs)
    given: dict[int, int] = {}  # jobs that each rank has yet to do, once it is ready
    while left or len(given) < ranks.size - 1:
        arrived: list[JobResult] = []
        while ranks.comm.iprobe():
            rank, result = ranks.comm.recv()
            if result is not None:
                arrived.append(result)
            given[rank] = given.get(rank, 1) - 1
            with contextlib.suppress(IndexError):  # the last one went to the root
                # Some jobs ahead, but one at a time when they come to an end.
                while given[rank] < (_AHEAD if len(todo) > _AHEAD * ranks.size else 1):
                    ranks.comm.send(todo.popleft(), dest=rank)
                    given[rank] += 1
        while not own.empty():
            done = own.get()
            if isinstance(done, BaseException):
                raise done
            arrived.append(done)
        left -= len(arrived)
        yield from arrived
        if not arrived:
            time.sleep(_PAUSE)
    for rank in given:
        ranks.comm.send(None, dest=rank)


def serve(ranks: Ranks, model: QuasarNP, config: RunConfig) -> None:
    """Do the jobs that the root deals, until there are none."""
    result: JobResult | None = None  # at first: it is ready
    while True:
        ranks.comm.send((ranks.rank, result), dest=0)
        while not ranks.comm.iprobe(source=0):
            time.sleep(_PAUSE)
        job: Job | None = ranks.comm.recv(source=0)
        if job is None:
            model.backend.release()
            return
        result = run_elsewhere(job, model, config)
