# The processes of OpenStack, in the order in which they are stopped. Sourced.
#
# RHIZOME_STACK_DRIVER=machines: servers that really boot, on one host; see ../machines.
driver=${RHIZOME_STACK_DRIVER:-hypervisor}
case $driver in
  hypervisor) hosts="compute-1 compute-2";;
  machines) hosts=machines-1;;
  *) echo "RHIZOME_STACK_DRIVER: \`hypervisor\` or \`machines\`" >&2; exit 2;;
esac
parts() {
  local host
  for host in $hosts; do echo "nova-$host"; done
  printf '%s\n' nova-api nova-scheduler nova-conductor neutron glance placement keystone rabbitmq epmd mariadb
}
