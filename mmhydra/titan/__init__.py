"""The only importer of torchtitan: its subclasses here are thin wraps of cores that live elsewhere.

Importing this package on a machine without an accelerator puts torchtitan on the CPU; torchtitan reads the device
when it is first imported, so this has to come before.
"""

from mmhydra.titan import cpu

cpu.install_without_accelerator()
