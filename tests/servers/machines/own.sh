# What up and down of the machines share. Sourced after common.sh.
#
# They have an engine and an OpenStack of their own, in folders below theirs.
address=10.20.0.10 subnet=10.20.0.0/22 gateway=10.20.0.1 bridge=rhizome0
engine=unix://$state/docker/docker.sock
docker() { /usr/bin/docker -H "$engine" "$@"; }
of_ours() { # SERVER SCRIPT ARGUMENTS...
  RHIZOME_SERVERS_DIR=$state RHIZOME_STACK_DRIVER=machines RHIZOME_MACHINE=$state/machine \
    RHIZOME_MACHINE_SEEDS=$state/seeds "$here/$1/$2" "${@:3}" 9>&-
}

# sweep [--wipe]: ends and forgets all of it; --wipe: the engine's images too. What is not there
# does not stop it.
sweep() {
  rm -f "$state/ready"
  [ ! -d "$state/openstack" ] || of_ours openstack down --wipe
  if docker version >/dev/null 2>&1; then
    local left; left=$(docker ps -aq --filter label=rhizome-machine)
    [ -z "$left" ] || docker rm -fv $left >/dev/null || true
    docker network rm rhizome >/dev/null 2>&1 || true
  fi
  [ ! -d "$state/docker" ] || of_ours docker down "$@"
  if ip link show $bridge >/dev/null 2>&1; then ip link delete $bridge; fi
  # What an `up` found, so that the kernel is again as it was.
  if [ -e "$state/kernel" ]; then
    xargs -n 1 sysctl -qw <"$state/kernel"; rm -f "$state/kernel"
  fi
  find "$state" -mindepth 1 -maxdepth 1 ! -name lock ! -name guard ! -name docker ! -name '*.log' -exec rm -rf {} +
}
