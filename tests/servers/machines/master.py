"""Has Nova make the first master; run by `up`, with Debian's own Python.

master.py CLOUDS ADDRESS <USER_DATA   prints the server's id
"""
import base64
import sys

from openstack.config import OpenStackConfig
from openstack.connection import Connection

NAME = 'master-1'


def main(clouds, address, user_data):
    config = OpenStackConfig(config_files=[clouds], load_envvars=False)
    admin, cloud = (Connection(config=config.get_one(name)) for name in ('admin', 'demo'))
    flavor = admin.compute.find_flavor('master') or admin.compute.create_flavor(
        name='master', vcpus=2, ram=3072, disk=1)
    # Room for several that tell the story at the same time: Nova's own quota is ten servers.
    project = cloud.session.get_project_id()
    admin.compute.put(f'/os-quota-sets/{project}', json={'quota_set': {'instances': 40, 'cores': 80, 'ram': 102400}})
    network = cloud.network.find_network('demo', ignore_missing=False)
    port = cloud.network.create_port(network_id=network.id, name=NAME, fixed_ips=[{'ip_address': address}])
    server = cloud.compute.create_server(
        name=NAME, flavor_id=flavor.id, image_id=cloud.image.find_image('tiny', ignore_missing=False).id,
        networks=[{'port': port.id}], config_drive=True,
        user_data=base64.b64encode(user_data.encode()).decode())
    cloud.compute.wait_for_server(server, wait=300)
    print(server.id)


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2], sys.stdin.read())
