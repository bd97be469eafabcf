# The configuration of the services, written to $etc. Sourced by `up`.
#
# What differs from the shipped defaults is there to make one small machine carry all of it, and
# to make states change soon: hosts report every 5 s and not every 10, a dead one counts as down
# after 20 s and not 60, a guest that went off is seen after 5 s and not after 10 minutes.
database() { echo "mysql+pymysql://root@localhost/$1?unix_socket=$socket&charset=utf8"; }
database_section() {
  printf '[database]\nconnection = %s\nmax_pool_size = 10\nmax_overflow = 20\nmysql_enable_ndb = false\n' "$(database "$1")"
}
credentials() { # SERVICE
  cat <<CONF
auth_type = password
auth_url = $keystone/v3
username = $1
password = $password
project_name = service
user_domain_name = Default
project_domain_name = Default
region_name = RegionOne
CONF
}
# Without the cache every call would have its token validated by Keystone: ten times as slow. With
# the usual five minutes a token that is withdrawn would be taken for longer than a test waits.
token_section() { # SERVICE
  cat <<CONF
[keystone_authtoken]
www_authenticate_uri = $keystone/v3
token_cache_time = 5
service_token_roles_required = true
$(credentials "$1")
CONF
}
rabbit=rabbit://stack:$password@127.0.0.1:$rabbit_port/

cat >"$etc/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$rabbit_port
distribution.listener.interface = 127.0.0.1
distribution.listener.port_range.min = $rabbit_dist_port
distribution.listener.port_range.max = $rabbit_dist_port
default_user = stack
default_pass = $password
vm_memory_high_watermark.absolute = 512MiB
disk_free_limit.absolute = 50MB
log.console = true
log.console.level = warning
log.file = false
CONF
echo '[].' >"$etc/rabbitmq-plugins"

cat >"$etc/keystone.conf" <<CONF
[DEFAULT]
log_file = $log/keystone.log
$(database_section keystone)
[token]
provider = fernet
[fernet_tokens]
key_repository = $state/fernet-keys/
[fernet_receipts]
key_repository = $state/fernet-keys/
[credential]
key_repository = $state/credential-keys/
[cache]
enabled = true
backend = dogpile.cache.memory
[identity]
password_hash_rounds = 4
CONF

cat >"$etc/placement.conf" <<CONF
[DEFAULT]
log_file = $log/placement.log
[placement_database]
connection = $(database placement)
[api]
auth_strategy = keystone
$(token_section placement)
CONF

cat >"$etc/glance.conf" <<CONF
[DEFAULT]
bind_host = 127.0.0.1
bind_port = $glance_port
workers = 0
log_file = $log/glance.log
$(database_section glance)
[glance_store]
stores = file
default_store = file
filesystem_store_datadir = $state/images/
[paste_deploy]
flavor = keystone
config_file = $etc/glance-paste.ini
$(token_section glance)
CONF

cat >"$etc/neutron.conf" <<CONF
[DEFAULT]
bind_host = 127.0.0.1
bind_port = $neutron_port
log_file = $log/neutron.log
state_path = $state
core_plugin = ml2
service_plugins = router
api_workers = 1
rpc_workers = 0
rpc_state_report_workers = 0
auth_strategy = keystone
api_paste_config = $etc/neutron-paste.ini
transport_url = $rabbit
dhcp_agent_notification = false
notify_nova_on_port_status_changes = true
notify_nova_on_port_data_changes = true
send_events_interval = 1
[oslo_concurrency]
lock_path = $state/locks
$(database_section neutron)
$(token_section neutron)
[nova]
$(credentials nova)
[placement]
$(credentials placement)
[ml2]
type_drivers = flat,vxlan
tenant_network_types = vxlan
mechanism_drivers = rhizome_stack
extension_drivers = port_security
[ml2_type_flat]
flat_networks = physnet1
[ml2_type_vxlan]
vni_ranges = 1:1000
CONF

cat >"$etc/nova.conf" <<CONF
[DEFAULT]
my_ip = 127.0.0.1
state_path = $state
instances_path = $state/instances
transport_url = $rabbit
enabled_apis = osapi_compute
osapi_compute_listen = 127.0.0.1
osapi_compute_listen_port = $nova_port
osapi_compute_workers = 1
compute_driver = rhizome_stack.Driver
sync_power_state_interval = 5
report_interval = 5
service_down_time = 20
update_resources_interval = 20
vif_plugging_timeout = 0
vif_plugging_is_fatal = false
default_ephemeral_format = ext4
[api]
auth_strategy = keystone
[wsgi]
api_paste_config = $etc/nova-paste.ini
[api_database]
connection = $(database nova_api)
max_pool_size = 10
max_overflow = 20
$(database_section nova)
[oslo_concurrency]
lock_path = $state/locks
# A host whose builds fail is not avoided: the tests make them fail.
[compute]
consecutive_build_service_disable_threshold = 0
[filter_scheduler]
build_failure_weight_multiplier = 0
[scheduler]
workers = 1
[conductor]
workers = 1
[glance]
api_servers = http://127.0.0.1:$glance_port
[neutron]
valid_interfaces = public
$(credentials neutron)
[placement]
valid_interfaces = public
$(credentials placement)
[service_user]
send_service_user_token = false
$(credentials nova)
[vnc]
enabled = false
$(token_section nova)
CONF
for part in nova-api nova-conductor nova-scheduler; do
  printf '[DEFAULT]\nlog_file = %s\n' "$log/$part.log" >"$etc/$part.conf"
done
for host in $hosts; do
  mkdir -p "$state/$host/instances"
  printf '[DEFAULT]\nhost = %s\nlog_file = %s\nstate_path = %s\ninstances_path = %s\n' \
    "$host" "$log/nova-$host.log" "$state/$host" "$state/$host/instances" >"$etc/nova-$host.conf"
done
part=

# ---- Pipelines, as the service packages ship them, without what nothing here asks for.
cat >"$etc/glance-paste.ini" <<'CONF'
[pipeline:glance-api-keystone]
pipeline = http_proxy_to_wsgi versionnegotiation authtoken context rootapp
[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/: apiversions
/v2: apiv2app
[app:apiversions]
paste.app_factory = glance.api.versions:create_resource
[app:apiv2app]
paste.app_factory = glance.api.v2.router:API.factory
[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:VersionNegotiationFilter.factory
[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
delay_auth_decision = true
[filter:http_proxy_to_wsgi]
paste.filter_factory = oslo_middleware:HTTPProxyToWSGI.factory
CONF
cat >"$etc/neutron-paste.ini" <<'CONF'
[composite:neutron]
use = egg:Paste#urlmap
/: neutronversions_composite
/v2.0: neutronapi_v2_0
[composite:neutronapi_v2_0]
use = call:neutron.auth:pipeline_factory
keystone = http_proxy_to_wsgi request_id catch_errors authtoken keystonecontext extensions neutronapiapp_v2_0
[composite:neutronversions_composite]
use = call:neutron.auth:pipeline_factory
keystone = http_proxy_to_wsgi neutronversions
[filter:request_id]
paste.filter_factory = oslo_middleware:RequestId.factory
[filter:catch_errors]
paste.filter_factory = oslo_middleware:CatchErrors.factory
[filter:http_proxy_to_wsgi]
paste.filter_factory = oslo_middleware.http_proxy_to_wsgi:HTTPProxyToWSGI.factory
[filter:keystonecontext]
paste.filter_factory = neutron.auth:NeutronKeystoneContext.factory
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
[filter:extensions]
paste.filter_factory = neutron.api.extensions:plugin_aware_extension_middleware_factory
[app:neutronversions]
paste.app_factory = neutron.pecan_wsgi.app:versions_factory
[app:neutronapiapp_v2_0]
paste.app_factory = neutron.api.v2.router:APIRouter.factory
CONF
cat >"$etc/nova-paste.ini" <<'CONF'
[composite:osapi_compute]
use = call:nova.api.openstack.urlmap:urlmap_factory
/: oscomputeversions
/v2.1: oscomputeversion_v2
/v2.1/+: openstack_compute_api_v21
[composite:openstack_compute_api_v21]
use = call:nova.api.auth:pipeline_factory_v21
keystone = http_proxy_to_wsgi compute_req_id faultwrap request_log sizelimit authtoken keystonecontext osapi_compute_app_v21
[filter:request_log]
paste.filter_factory = nova.api.openstack.requestlog:RequestLog.factory
[filter:compute_req_id]
paste.filter_factory = nova.api.compute_req_id:ComputeReqIdMiddleware.factory
[filter:faultwrap]
paste.filter_factory = nova.api.openstack:FaultWrapper.factory
[filter:sizelimit]
paste.filter_factory = oslo_middleware:RequestBodySizeLimiter.factory
[filter:http_proxy_to_wsgi]
paste.filter_factory = oslo_middleware.http_proxy_to_wsgi:HTTPProxyToWSGI.factory
[filter:keystonecontext]
paste.filter_factory = nova.api.auth:NovaKeystoneContext.factory
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
[app:osapi_compute_app_v21]
paste.app_factory = nova.api.openstack.compute:APIRouterV21.factory
[pipeline:oscomputeversions]
pipeline = faultwrap request_log http_proxy_to_wsgi oscomputeversionapp
[pipeline:oscomputeversion_v2]
pipeline = compute_req_id faultwrap request_log http_proxy_to_wsgi oscomputeversionapp_v2
[app:oscomputeversionapp]
paste.app_factory = nova.api.openstack.compute.versions:Versions.factory
[app:oscomputeversionapp_v2]
paste.app_factory = nova.api.openstack.compute.versions:VersionsV2.factory
CONF
