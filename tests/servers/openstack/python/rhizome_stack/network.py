"""Binds every port at once, without an agent, and plays the L3 agent for floating IPs' status.

In reality the agent sets the status a moment after the association: the answer to it still
says DOWN, and the next look ACTIVE. So it is here.
"""
from neutron.objects import router
from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.callbacks import events, registry, resources
from neutron_lib.plugins.ml2 import api


class Driver(api.MechanismDriver):
    def initialize(self):
        for event in (events.AFTER_CREATE, events.AFTER_UPDATE):
            registry.subscribe(self._floating_ip, resources.FLOATING_IP, event)

    @property
    def connectivity(self):
        return portbindings.CONNECTIVITY_L2

    def bind_port(self, context):
        segment = context.segments_to_bind[0][api.ID]
        context.set_binding(segment, portbindings.VIF_TYPE_OVS, {portbindings.CAP_PORT_FILTER: True},
                            status=constants.PORT_STATUS_ACTIVE)

    def _floating_ip(self, resource, event, trigger, payload=None):
        admin = payload.context.elevated()
        address = router.FloatingIP.get_object(admin, id=payload.resource_id)
        if address is None:
            return
        status = constants.FLOATINGIP_STATUS_ACTIVE if address.fixed_port_id else constants.FLOATINGIP_STATUS_DOWN
        if address.status != status:
            router.FloatingIP.update_object(admin, {'status': status}, id=address.id)
