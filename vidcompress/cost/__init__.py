"""Cost on paper: operations, memory and roofline time from a model's config, before anything is run."""

from .devices import DEVICES as DEVICES
from .devices import Device as Device
from .estimate import Estimate as Estimate
from .estimate import allowed_ratio as allowed_ratio
from .estimate import estimate as estimate

__all__ = ["DEVICES", "Device", "Estimate", "allowed_ratio", "estimate"]
