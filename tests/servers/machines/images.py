"""Writes the image archives that a node loads into its containerd, in the format of `docker save`.

images.py OUT ROOT KUBERNETES KUBE_PROXY VERSION

worker.tar   pause, kube-proxy with Debian's iptables and nft, busybox
control.tar  kube-apiserver, kube-controller-manager, kube-scheduler and etcd: four names of one layer

ROOT is the machines' file system, from which busybox and iptables come.
"""
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile

ROOT = sys.argv[2]
PATH = '/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
EPOCH = '1970-01-01T00:00:00Z'


class Layer:
    """One layer: a tar with the folders of all that is put into it."""

    def __init__(self):
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode='w', format=tarfile.PAX_FORMAT)
        self.names = set()
        self.folder('tmp', 0o1777)

    def _add(self, name, data=None, **fields):
        info = tarfile.TarInfo(name.strip('/'))
        for field, value in fields.items():
            setattr(info, field, value)
        if info.name in self.names:
            return
        parent = os.path.dirname(info.name)
        if parent:
            self.folder(parent)
        self.names.add(info.name)
        self.tar.addfile(info, data)

    def folder(self, name, mode=0o755):
        self._add(name, type=tarfile.DIRTYPE, mode=mode)

    def file(self, source, name):
        with open(source, 'rb') as data:
            self._add(name, data, size=os.path.getsize(source), mode=0o755)

    def link(self, target, name):
        self._add(name, type=tarfile.SYMTYPE, linkname=target, mode=0o777)

    def text(self, content, name):
        self._add(name, io.BytesIO(content.encode()), size=len(content), mode=0o644)

    def bytes(self):
        self.tar.close()
        return self.buffer.getvalue()


def archive(path, images):
    """images: (reference, layer, entrypoint, command) of each; equal layers are written once."""
    manifest, written = [], set()
    with tarfile.open(path, 'w') as tar:
        def put(name, data):
            if name not in written:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                written.add(name)
        for reference, layer, entrypoint, command in images:
            digest = hashlib.sha256(layer).hexdigest()
            config = json.dumps({
                'architecture': 'amd64', 'os': 'linux', 'created': EPOCH,
                'config': {'Env': ['PATH=' + PATH], 'Entrypoint': entrypoint, 'Cmd': command, 'WorkingDir': '/'},
                'rootfs': {'type': 'layers', 'diff_ids': ['sha256:' + digest]},
                'history': [{'created': EPOCH, 'created_by': reference}],
            }).encode()
            name = hashlib.sha256(config).hexdigest() + '.json'
            put(digest + '/layer.tar', layer)
            put(name, config)
            manifest.append({'Config': name, 'RepoTags': [reference], 'Layers': [digest + '/layer.tar']})
        put('manifest.json', json.dumps(manifest).encode())


def libraries(program):
    """What the loader maps for a program of the machines, asked inside."""
    said = subprocess.run(['chroot', ROOT, 'ldd', program], capture_output=True, text=True).stdout
    return re.findall(r'(/\S+\.so\S*)', said)


def inside(path):
    return os.path.join(ROOT, path.lstrip('/'))


def busybox():
    layer = Layer()
    layer.text('root:x:0:0:root:/root:/bin/sh\n', 'etc/passwd')
    layer.file(inside('bin/busybox'), 'bin/busybox')
    applets = subprocess.run([inside('bin/busybox'), '--list'], capture_output=True, text=True, check=True).stdout
    for applet in applets.split():
        layer.link('busybox', 'bin/' + applet)
    return layer.bytes()


def kube_proxy(program):
    layer = Layer()
    layer.folder('run')
    layer.file(program, 'usr/local/bin/kube-proxy')
    plugins = '/usr/lib/x86_64-linux-gnu/xtables'
    needed = ['/usr/sbin/xtables-nft-multi', '/usr/sbin/nft']
    needed += [f'{plugins}/{name}' for name in sorted(os.listdir(inside(plugins)))]
    for one in needed:
        layer.file(inside(one), one)
    # The plugins' own libraries too: without libm one of them fails, and with it every set of rules.
    for library in sorted({library for one in needed for library in libraries(one)}):
        layer.file(os.path.realpath(inside(library)), library)
    for tool in ('iptables', 'ip6tables'):
        for end in ('', '-save', '-restore'):
            layer.link('xtables-nft-multi', f'usr/sbin/{tool}{end}')
    return layer.bytes()


def control_plane(kubernetes, programs):
    layer = Layer()
    layer.file(kubernetes, 'usr/local/bin/kubernetes')
    for program in programs:
        layer.link('kubernetes', 'usr/local/bin/' + program)
    return layer.bytes()


def main(out, kubernetes, proxy, version):
    box = busybox()
    archive(os.path.join(out, 'worker.tar'), [
        # It only has to be there: it holds a pod's namespaces.
        ('registry.k8s.io/pause:3.10.2', box, ['/bin/sleep', '2147483647'], None),
        (f'registry.k8s.io/kube-proxy:{version}', kube_proxy(proxy), None, ['/usr/local/bin/kube-proxy']),
        ('localhost/busybox:stable', box, None, ['sh']),
    ])
    images = {'etcd': 'etcd:3.6.8-0'}
    programs = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'etcd']
    layer = control_plane(kubernetes, programs)
    archive(os.path.join(out, 'control.tar'), [
        ('registry.k8s.io/' + images.get(program, f'{program}:{version}'), layer, None, ['/usr/local/bin/' + program])
        for program in programs
    ])


if __name__ == '__main__':
    main(sys.argv[1], *sys.argv[3:])
