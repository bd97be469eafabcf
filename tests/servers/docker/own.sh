# What up and down of this server share. Sourced, not run.
docker=/usr/bin/docker
# The path of a socket may have some hundred characters.
socket=$state/docker.sock
[ ${#socket} -lt 100 ] || socket=/tmp/rhizome-docker-$(printf '%s' "$state" | sha256sum | cut -c1-16).sock
host=unix://$socket

answers() { "$docker" -H "$host" version >/dev/null 2>&1; }

# sweep: ends the engine, and what one that was killed has left: its helpers, whose arguments name
# its folder, its containers, whose control groups are called after them, mounts and bridges.
sweep() {
  local pid folder
  stop TERM
  for pid in $(grep -lF -- "$state/run/" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3); do
    [ "$pid" = $$ ] || kill -KILL "$pid" 2>/dev/null || true
  done
  for folder in "$state"/data/containers/*/; do
    for pid in $(grep -lF -- "/$(basename "$folder")" /proc/[0-9]*/cgroup 2>/dev/null | cut -d/ -f3); do
      kill -KILL "$pid" 2>/dev/null || true
    done
  done
  for folder in $(awk -v under="$state/" 'index($5, under) == 1 {print $5}' /proc/self/mountinfo | sort -r); do
    umount -l "$folder" 2>/dev/null || true
  done
  rm -rf "$socket" "$state/own.pid" "$state/run"
}

# restore: the machine's forwarding and its rules as they were, if no other engine had any.
restore() {
  local forward policy chains
  [ -e "$state/before" ] || return 0
  . "$state/before"
  if [ "${chains:-0}" = 0 ]; then
    iptables-save | grep -v DOCKER | iptables-restore || true
    [ -z "${policy:-}" ] || iptables -P FORWARD "$policy" || true
    sysctl -qw net.ipv4.ip_forward="${forward:-0}" || true
  fi
  rm -f "$state/before"
}
