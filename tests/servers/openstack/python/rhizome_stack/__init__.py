"""What the real services need to run on one machine: a network and a hypervisor that are none."""
