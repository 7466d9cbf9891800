"""Contract checks that any package can run on its own method or model family.

    from vidcompress import testing

    testing.check_method("my_method")             # on made-up layouts and on the embedded models
    testing.check_adapter(model, inputs)          # every method that serves these inputs, on your model

Each raises a `ContractError`, which is an AssertionError and names the violated rule. The single checks can be called
on their own; the tests of vidcompress call them too.
"""

from vidcompress.testing.adapters import check_adapter
from vidcompress.testing.block import check_block
from vidcompress.testing.controls import check_controls
from vidcompress.testing.entrance import check_entrance
from vidcompress.testing.expect import ContractError
from vidcompress.testing.gathered import check_gathered
from vidcompress.testing.methods import check_method, check_selections, select_alone
from vidcompress.testing.models import check_counts, check_identity, check_masked
from vidcompress.testing.positions import check_positions
from vidcompress.testing.rows import check_rows

__all__ = [
    "ContractError",
    "check_adapter",
    "check_block",
    "check_controls",
    "check_counts",
    "check_entrance",
    "check_gathered",
    "check_identity",
    "check_masked",
    "check_method",
    "check_positions",
    "check_rows",
    "check_selections",
    "select_alone",
]
