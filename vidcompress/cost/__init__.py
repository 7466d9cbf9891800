"""Cost on paper: operations, memory and roofline time from a model's config, before anything is run."""

from vidcompress.cost.devices import DEVICES as DEVICES
from vidcompress.cost.devices import Device as Device
from vidcompress.cost.estimate import Estimate as Estimate
from vidcompress.cost.estimate import allowed_ratio as allowed_ratio
from vidcompress.cost.estimate import estimate as estimate

__all__ = ["DEVICES", "Device", "Estimate", "allowed_ratio", "estimate"]
