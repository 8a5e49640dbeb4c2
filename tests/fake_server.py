"""A server with an engine that hashes, as a process: fake_server.py PORT STORE."""

import sys
import threading

from serving import start

from stream_erc.server.stores.opening import open_store

if __name__ == "__main__":
    start(port=int(sys.argv[1]), store=open_store(sys.argv[2]))
    threading.Event().wait()
