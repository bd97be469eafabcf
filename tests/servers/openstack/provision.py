"""Puts into a fresh OpenStack what the tests need; run by `up`, with Debian's own Python.

provision.py catalog KEYSTONE GLANCE PLACEMENT NOVA NEUTRON   services, users, projects
provision.py stock KEYSTONE CLOUDS_YAML ENV                   image, flavors, networks, credentials

Each look before it makes something, so a run that was broken off may be repeated.
"""
import sys

import openstack

PASSWORD = 'rhizome-test'
# Projects of their own, so that no test sees another's servers. `small` has a quota of one server.
PROJECTS = ('demo', 'contract', 'small')


def connect(keystone, project, user=None):
    return openstack.connect(
        auth_url=keystone, username=user or project, password=PASSWORD, project_name=project,
        user_domain_name='Default', project_domain_name='Default', region_name='RegionOne', load_yaml_config=False,
        load_envvars=False)


def catalog(keystone, *urls):
    identity = connect(keystone, 'admin').identity
    roles = {role.name: role.id for role in identity.roles()}

    def user(name, project, *wanted):
        there = identity.find_user(name) or identity.create_user(
            name=name, password=PASSWORD, domain_id='default', default_project_id=project.id)
        for role in wanted:
            if role not in roles:
                roles[role] = identity.create_role(name=role).id
            identity.put(f'/projects/{project.id}/users/{there.id}/roles/{roles[role]}')

    def project(name):
        return identity.find_project(name) or identity.create_project(name=name, domain_id='default')

    services = project('service')
    there = {service.name for service in identity.services()}
    kinds = (('glance', 'image'), ('placement', 'placement'), ('nova', 'compute'), ('neutron', 'network'))
    for (name, kind), url in zip(kinds, urls):
        user(name, services, 'admin', 'service')
        if name not in there:
            service = identity.create_service(name=name, type=kind)
            for interface in ('public', 'internal'):
                identity.create_endpoint(service_id=service.id, interface=interface, url=url, region_id='RegionOne')
    for name in PROJECTS:
        user(name, project(name), 'member', 'reader')


def stock(keystone, clouds, env):
    admin = connect(keystone, 'admin')
    facts = {'keystone': keystone, 'clouds': clouds, 'password': PASSWORD}
    image = admin.image.find_image('tiny') or admin.image.create_image(
        name='tiny', disk_format='raw', container_format='bare', visibility='public', data=b'\0' * 65536)
    facts['image'] = image.id
    for name, ram, disk in (('small', 512, 1), ('medium', 1024, 1), ('too.big', 512, 99999)):
        flavor = admin.compute.find_flavor(name) or admin.compute.create_flavor(name=name, vcpus=1, ram=ram, disk=disk)
        facts['flavor_' + name.replace('.', '_')] = flavor.id
    public = admin.network.find_network('public') or admin.network.create_network(
        name='public', is_router_external=True, provider_network_type='flat', provider_physical_network='physnet1')
    facts['public'] = public.id
    if not admin.network.find_subnet('public-v4'):
        admin.network.create_subnet(name='public-v4', network_id=public.id, ip_version=4, cidr='203.0.113.0/24',
                                    is_dhcp_enabled=False)
    for name in PROJECTS:
        facts[name + '_project'] = admin.identity.find_project(name).id
        network(connect(keystone, name), name, public, facts)
    admin.compute.put(f"/os-quota-sets/{facts['small_project']}", json={'quota_set': {'instances': 1}})
    credential(connect(keystone, 'demo'), facts)
    with open(clouds, 'w') as file:
        file.write('clouds:\n')
        for name in ('admin',) + PROJECTS:
            file.write(f'  {name}:\n    region_name: RegionOne\n    auth: {{auth_url: "{keystone}", username: {name},'
                       f' password: {PASSWORD}, project_name: {name}, user_domain_name: Default,'
                       f' project_domain_name: Default}}\n')
    with open(env, 'a') as file:
        file.writelines(f'{name}={value}\n' for name, value in facts.items())


def network(cloud, name, public, facts):
    """A network behind a router, so that its machines can have floating IPs, and a security group."""
    net = cloud.network.find_network(name, ignore_missing=True) or cloud.network.create_network(name=name)
    subnet = cloud.network.find_subnet(name) or cloud.network.create_subnet(
        name=name, network_id=net.id, ip_version=4, cidr='10.20.0.0/22')
    if not cloud.network.find_router(name):
        router = cloud.network.create_router(name=name, external_gateway_info={'network_id': public.id})
        cloud.network.add_interface_to_router(router.id, subnet_id=subnet.id)
    group = cloud.network.find_security_group('nodes') or cloud.network.create_security_group(name='nodes')
    facts[name + '_network'] = net.id
    facts[name + '_group'] = group.id


def credential(cloud, facts):
    user = cloud.session.get_user_id()
    for old in list(cloud.identity.application_credentials(user)):
        cloud.identity.delete_application_credential(user, old)
    new = cloud.identity.create_application_credential(user=user, name='rhizome', roles=[{'name': 'member'}])
    facts['credential_id'] = new.id
    facts['credential_secret'] = new.secret


if __name__ == '__main__':
    {'catalog': catalog, 'stock': stock}[sys.argv[1]](*sys.argv[2:])
