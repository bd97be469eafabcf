"""Nova's driver whose servers are containers in which a real cloud-init, containerd and kubelet run.

What is true of a guest is what its container is, so a nova-compute that was started anew goes on
with what it finds. The faults of the fake hypervisor work here too. There is no resize and no
migration.

RHIZOME_MACHINE        the script that makes and switches the containers
RHIZOME_MACHINE_SEEDS  the folder for what a config drive holds
"""
import os
import shutil

from nova import exception
from nova.api.metadata import base as instance_metadata
from nova.compute import power_state
from nova.virt import fake, hardware
from oslo_concurrency import processutils

from rhizome_stack import hypervisor

SEEDS = os.environ['RHIZOME_MACHINE_SEEDS']
# One that is frozen plays a guest that hangs, and of that a hypervisor knows nothing.
STATES = {'running': power_state.RUNNING, 'restarting': power_state.RUNNING, 'paused': power_state.RUNNING,
          'created': power_state.SHUTDOWN, 'exited': power_state.SHUTDOWN, 'dead': power_state.CRASHED}


def machine(action, instance, *more):
    try:
        said, _ = processutils.execute(os.environ['RHIZOME_MACHINE'], action, instance.uuid, *more)
    except processutils.ProcessExecutionError as error:
        raise exception.NovaException(f'machine {action}: {(error.stderr or "").strip()[-400:]}')
    return said.strip()


class Driver(hypervisor.Driver):
    def spawn(self, context, instance, image_meta, injected_files, admin_password, allocations,
              network_info=None, block_device_info=None, power_on=True, accel_info=None):
        if not network_info:
            raise exception.BuildAbortException(instance_uuid=instance.uuid, reason='a machine needs a network')
        super().spawn(context, instance, image_meta, injected_files, admin_password, allocations, network_info,
                      block_device_info)
        vif = network_info[0]
        address = next(ip['address'] for subnet in vif['network']['subnets'] if subnet['version'] == 4
                       for ip in subnet['ips'])
        # What is left of a spawn that was cut off.
        machine('destroy', instance)
        machine('create', instance, instance.hostname, address, vif['address'], str(instance.flavor.vcpus),
                str(instance.flavor.memory_mb), self._config_drive(instance, injected_files, network_info))

    def destroy(self, context, instance, *args, **kwargs):
        super().destroy(context, instance, *args, **kwargs)
        machine('destroy', instance)
        shutil.rmtree(os.path.join(SEEDS, instance.uuid), ignore_errors=True)

    def power_off(self, instance, *args, **kwargs):
        self._meet(instance)
        self._off(instance)
        super().power_off(instance, *args, **kwargs)

    def power_on(self, context, instance, *args, **kwargs):
        self._meet(instance)
        super().power_on(context, instance, *args, **kwargs)
        machine('start', instance)

    def reboot(self, context, instance, network_info, reboot_type, *args, **kwargs):
        self._meet(instance)
        self._off(instance, hard=reboot_type == 'HARD')
        # The fake one ends in power_on.
        super().reboot(context, instance, network_info, reboot_type, *args, **kwargs)

    def get_console_output(self, context, instance):
        return machine('sh', instance, 'tail', '-c', '60000', '/var/log/cloud-init-output.log').encode()

    def get_info(self, instance, use_cache=True):
        state = machine('state', instance)
        if state == 'absent':
            raise exception.InstanceNotFound(instance_id=instance.uuid)
        self._meet(instance)
        if self._crashed(instance):
            return hardware.InstanceInfo(state=power_state.SHUTDOWN)
        return hardware.InstanceInfo(state=STATES.get(state, power_state.NOSTATE))

    def _off(self, instance, hard=False):
        state = machine('state', instance)
        # Who hangs does not hear that it should shut down.
        if state == 'paused' or state == 'running' and hard:
            machine('kill', instance)
        elif state == 'running':
            machine('stop', instance)

    def _meet(self, instance):
        """The fake one keeps its guests in memory: takes in one that it does not know."""
        if instance.uuid not in self.instances:
            flavor = instance.flavor
            self.resources.claim(vcpus=flavor.vcpus, mem=flavor.memory_mb, disk=flavor.root_gb)
            self.instances[instance.uuid] = fake.FakeInstance(instance.name, power_state.RUNNING, instance.uuid)

    def _config_drive(self, instance, injected_files, network_info):
        """Writes the very files that a config drive has."""
        seed = os.path.join(SEEDS, instance.uuid)
        shutil.rmtree(seed, ignore_errors=True)
        drive = instance_metadata.InstanceMetadata(
            instance, content=injected_files or [], extra_md={}, network_info=network_info)
        for path, data in drive.metadata_for_config_drive():
            target = os.path.join(seed, path)
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            with open(target, 'wb') as file:
                file.write(data if isinstance(data, bytes) else data.encode())
        return seed
