# What the machines are made of: programs, a base system, and of both an image. Sourced by `up`
# after common.sh.
#
# There is no image registry here: the base system is made of Debian's packages, and the images
# that a node runs are made of its files and of our own programs.
packages=systemd,systemd-sysv,dbus,containerd,runc,containernetworking-plugins,iptables,nftables,conntrack,ipset,iproute2,kmod,procps
packages+=,netbase,ca-certificates,openssl,ethtool,socat,busybox-static,cloud-init,collectd-core,librdkafka1,libyajl2,libcurl3-gnutls
# One that python3-cryptography needs under a virtual name, which debootstrap does not know.
packages+=,python3-cffi-backend
release=bookworm

# Programs and base system, each once into the cache: minutes when nothing is there.
make_parts() {
  "$here/kubernetes/up" --build || exit $?
  . "$here/go.sh"
  go_program kubernetes "$here/kubernetes/stack" .; kubernetes=$program
  go_program kubelet "$here/machines/stack" k8s.io/kubernetes/cmd/kubelet; kubelet=$program
  go_program kube-proxy "$here/machines/stack" k8s.io/kubernetes/cmd/kube-proxy; kube_proxy=$program
  need_packages debootstrap
  mirror=$(awk '/^URIs:/ {print $2; exit} /^deb / {print $2; exit}' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true)
  base=$cache/machine-base-$(echo "$packages $mirror" | sha256sum | cut -c1-12).tar
  [ ! -e "$base" ] || return 0
  exec 8>"$cache/machine-base.lock"; flock -w 1800 8 || die "another run makes $base"
  if [ ! -e "$base" ]; then
    say "making the base system of Debian's packages"
    # Not in the state folder: a `down` may come while this is under way.
    local tree=${base%.tar}
    rm -rf "$tree"
    debootstrap --variant=minbase --include="$packages" $release "$tree" ${mirror:+"$mirror"} \
      >"$state/debootstrap.log" 2>&1 8>&- || cannot "debootstrap could not make it, see $state/debootstrap.log"
    (cd "$tree" && rm -rf var/lib/apt/lists/* var/cache/apt/* var/log/*.log usr/share/{doc,man,locale}/* etc/resolv.conf)
    tar -C "$tree" --one-file-system -cf "$base.new" .
    mv "$base.new" "$base"; rm -rf "$tree"
  fi
  exec 8>&-
}

# make_image: puts the parts together, unless the engine has it.
make_image() {
  local sum tree=$state/tree
  sum=$( (basename -a "$base" "$kubernetes" "$kubelet" "$kube_proxy"; cd "$here/machines"; cat image.sh images.py
    find root -type f | sort | xargs cat) | sha256sum | cut -c1-12)
  if ! docker image inspect "rhizome-machine:$sum" >/dev/null 2>&1; then
    say "making the machines' image"
    rm -rf "$tree"; mkdir -p "$tree"
    tar -C "$tree" -xf "$base"
    cp -R "$here/machines/root/." "$tree/"
    mkdir -p "$tree"/usr/lib/machine/{bin,images.d} "$tree"/{lib/modules,etc/cni/net.d,var/lib/etcd,var/lib/kubelet}
    rm -f "$tree"/etc/cni/net.d/*
    cp "$kubelet" "$tree/usr/bin/kubelet"
    cp "$kubernetes" "$tree/usr/lib/machine/bin/kubernetes"
    ln -s kubernetes "$tree/usr/lib/machine/bin/kubeadm"
    ln -s kubernetes "$tree/usr/lib/machine/bin/kubectl"
    ln -s ../lib/machine/bin/kubectl "$tree/usr/bin/kubectl"
    /usr/bin/python3 "$here/machines/images.py" "$tree/usr/lib/machine/images.d" "$tree" "$kubernetes" "$kube_proxy" "$version"
    choose_units "$tree" >"$state/units.log" 2>&1 || die "the machines' units could not be chosen, see $state/units.log"
    : >"$tree/etc/machine-id"
    tar -C "$tree" -c . | docker import --change 'ENTRYPOINT ["/usr/lib/machine/entry"]' - "rhizome-machine:$sum" >/dev/null
    rm -rf "$tree"
  fi
  docker tag "rhizome-machine:$sum" rhizome-machine:latest
}

# What is masked would act on the host, whose kernel the machines share.
choose_units() { # ROOT
  systemctl() { chroot "$tree" systemctl "$@"; }
  local tree=$1
  systemctl enable machine-network machine-images kubelet containerd cloud-init-local cloud-init cloud-config cloud-final
  systemctl disable collectd e2scrub_reap cloud-init-hotplugd.socket || true
  systemctl set-default multi-user.target
  systemctl mask systemd-udevd systemd-udev-trigger systemd-modules-load systemd-sysctl systemd-remount-fs systemd-binfmt \
    systemd-pstore systemd-logind getty@tty1 console-getty getty.target dev-hugepages.mount sys-kernel-debug.mount \
    sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount \
    systemd-firstboot systemd-machine-id-commit apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer fstrim.timer
}
