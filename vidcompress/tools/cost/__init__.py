"""Cost estimates: operations, memory and roofline time from a model's config, without running it."""

from vidcompress.tools.cost.devices import DEVICES as DEVICES
from vidcompress.tools.cost.devices import Device as Device
from vidcompress.tools.cost.estimate import Estimate as Estimate
from vidcompress.tools.cost.estimate import allowed_ratio as allowed_ratio
from vidcompress.tools.cost.estimate import estimate as estimate

__all__ = ["DEVICES", "Device", "Estimate", "allowed_ratio", "estimate"]
