"""A server with an engine that hashes, as a process: fake_server.py PORT STORE [RAY_ADDRESS]."""

import sys
import threading

from fake_ray import PLAN, make_workers
from serving import start

from stream_erc.server.stores.opening import open_store

if __name__ == "__main__":
    make_worker = None
    if len(sys.argv) > 3:
        from stream_erc.inference.remote.ray_cluster import connect
        from stream_erc.inference.remote.ray_worker import Actors

        connect(sys.argv[3])
        make_worker = make_workers(Actors(PLAN))
    start(port=int(sys.argv[1]), store=open_store(sys.argv[2]), make_worker=make_worker)
    threading.Event().wait()
