#!/bin/sh
# The first process of the guest: an NFS server and client of the kernel's own, then the tests. The root is the host's,
# read-only; what is written lies in memory; /tmp stays, for a checkout may lie there. The host says NFS_TOOLS,
# NFS_MODULES, NFS_PYTHON and NFS_TESTS.
export PATH="$NFS_TOOLS/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/mnt/tmp TMPDIR=/mnt/tmp LC_ALL=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for directory in /run /mnt /var/tmp /var/lib/nfs /dev/shm; do
    mkdir -p "$directory" 2>/dev/null
    mount -t tmpfs -o mode=1777 tmpfs "$directory"
done
(
    set -e
    modprobe -d "$NFS_MODULES" nfsd
    modprobe -d "$NFS_MODULES" nfsv4
    ip link set lo up
    mkdir -p /run/rpc_pipefs /var/lib/nfs/v4recovery /var/lib/nfs/rpc_pipefs /mnt/export/scans /mnt/export/volume
    touch /var/lib/nfs/etab /var/lib/nfs/rmtab
    mount -t nfsd nfsd /proc/fs/nfsd
    exportfs -i -o rw,no_root_squash,fsid=0,insecure,no_subtree_check '*:/mnt/export'
    rpc.mountd -N 3
    rpc.nfsd -N 3 -U 2
    echo Y > /proc/fs/nfsd/v4_end_grace
    mkdir /mnt/tmp
    cd /mnt/tmp
    "$NFS_PYTHON" -m pytest -p no:cacheprovider --color=no -q "$NFS_TESTS"
)
echo "nfs tests ended with $?"
echo o > /proc/sysrq-trigger
sleep 60
