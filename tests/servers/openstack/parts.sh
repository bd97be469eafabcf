# The processes of OpenStack, in the order in which they are stopped. Sourced.
hosts="compute-1 compute-2"
parts() {
  local host
  for host in $hosts; do echo "nova-$host"; done
  printf '%s\n' nova-api nova-scheduler nova-conductor neutron glance placement keystone rabbitmq epmd mariadb
}
