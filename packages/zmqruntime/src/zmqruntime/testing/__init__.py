"""Doubles for programs that use zmqruntime: clocks, ports, servers, journals, links that fail."""

from __future__ import annotations

from zmqruntime.testing._clock import FakeClock
from zmqruntime.testing._endpoint_proxy import EndpointProxy, proxy_endpoint
from zmqruntime.testing._faults import Ending, FaultProxy, Way
from zmqruntime.testing._faulty_link import FaultyLink, LinkFault, random_faults
from zmqruntime.testing._jobs import write_finished_jobs
from zmqruntime.testing._mutator import Mutator
from zmqruntime.testing._servers import free_endpoint, serve_in_thread

__all__ = [
    "Ending",
    "EndpointProxy",
    "FakeClock",
    "FaultProxy",
    "FaultyLink",
    "LinkFault",
    "Mutator",
    "Way",
    "free_endpoint",
    "proxy_endpoint",
    "random_faults",
    "serve_in_thread",
    "write_finished_jobs",
]
