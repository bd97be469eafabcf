"""Nova's fake hypervisor with faults, read from files in $RHIZOME_STACK_FAULTS at each call.

spawn-delay    seconds that every spawn takes
spawn-fail     how many of the next spawns fail; the scheduler then tries another host
crash/UUID     the guest of this server is off, as if it had crashed
"""
import fcntl
import os
import time

from nova import exception
from nova.compute import power_state
from nova.virt import fake, hardware

FAULTS = os.environ['RHIZOME_STACK_FAULTS']


def _path(*names):
    return os.path.join(FAULTS, *names)


def _read(name):
    try:
        with open(_path(name)) as file:
            return file.read().strip()
    except OSError:
        return ''


def _take(name):
    """Counts the number in the file down by one; false if there was none left."""
    try:
        with open(_path(name), 'r+') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            left = int(file.read().strip() or 0)
            if left <= 0:
                return False
            file.seek(0)
            file.truncate()
            file.write(str(left - 1))
            return True
    except (OSError, ValueError):
        return False


class Driver(fake.FakeDriver):
    # What a host has: enough for every test, and bounded, so that `too.big` finds no host.
    vcpus, memory_mb, local_gb = 64, 262144, 4096

    def spawn(self, context, instance, *args, **kwargs):
        time.sleep(float(_read('spawn-delay') or 0))
        if _take('spawn-fail'):
            raise exception.NovaException('injected by spawn-fail')
        return super().spawn(context, instance, *args, **kwargs)

    def reboot(self, context, instance, *args, **kwargs):
        self._mend(instance)
        return super().reboot(context, instance, *args, **kwargs)

    def power_on(self, context, instance, *args, **kwargs):
        self._mend(instance)
        return super().power_on(context, instance, *args, **kwargs)

    def get_info(self, instance, use_cache=True):
        if self._crashed(instance):
            return hardware.InstanceInfo(state=power_state.SHUTDOWN)
        return super().get_info(instance, use_cache)

    def _crashed(self, instance):
        return os.path.exists(_path('crash', instance.uuid))

    def _mend(self, instance):
        if self._crashed(instance):
            os.unlink(_path('crash', instance.uuid))
