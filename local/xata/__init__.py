"""A stand-in for Xata's API: real paths, bodies, statuses, texts and delays; a real database behind each branch."""

from local.xata.behaviour import Behaviour
from local.xata.catalogue import Region
from local.xata.faults import Fault, FaultKind, Garbling
from local.xata.model import StatusType
from local.xata.record import Request
from local.xata.stand_in import XataStandIn

__all__ = ["Behaviour", "Fault", "FaultKind", "Garbling", "Region", "Request", "StatusType", "XataStandIn"]
