"""Do two processes that shared work end well, even where gloo's threads are late?

python -m tests.training.leaving ROUNDS

Each round forks two processes that exchange small objects and end at once. They stand on one core
and never hand Python's lock over on their own, so that threads still hold the last references to
what was exchanged when Python begins to end.
"""

import os
import socket
import sys

import torch

from training.distributed import joined


def main(rounds: int) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    codes = []
    for _ in range(rounds):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ.update(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        children = []
        for process in range(2):
            child = os.fork()
            if child == 0:
                os.environ["RANK"] = str(process)
                exchange()
                return
            children.append(child)
        codes += [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in children]
    print("codes:", sorted(set(codes)))


def exchange() -> None:
    with joined("cpu") as world:
        sys.setswitchinterval(1000)
        for _ in range(50):
            world.gather(list(range(1000)))
            world.add(torch.ones(100))


if __name__ == "__main__":
    main(int(sys.argv[1]))
