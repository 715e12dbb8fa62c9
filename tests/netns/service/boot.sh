#!/bin/sh
# Boots systemd in namespaces, with this machine's files below it and none of its services:
#
#   boot.sh FOLDER NETWORK CGROUP
#
# FOLDER/root is laid over this machine's root, and what is written goes to memory. FOLDER/units is all that
# systemd knows of. NETWORK is a network namespace, CGROUP a new folder of a cgroup2 file system.
set -eu
if [ $# = 3 ]; then
  mkdir "$3"
  echo $$ >"$3/cgroup.procs"
  exec nsenter --net="$2" \
    unshare --cgroup --ipc --mount --pid --uts --fork --kill-child "$0" "$1"
fi
cd "$1"
mkdir -p memory
mount -t tmpfs tmpfs memory
mkdir memory/work memory/root
cp -r root memory/upper
mount -t overlay -o lowerdir=/,upperdir=memory/upper,workdir=memory/work overlay memory/root
units=$PWD/units
cd memory/root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for folder in dev run tmp; do mount -t tmpfs tmpfs $folder; done
for device in null zero full random urandom tty; do
  : >dev/$device
  mount --bind /dev/$device dev/$device
done
mkdir -p dev/pts dev/shm run/units run/systemd/system
mount -t devpts devpts dev/pts
ln -s pts/ptmx dev/ptmx
cp "$units"/* run/units/
mkdir -p run/old
pivot_root . run/old
umount -l /run/old
exec env -i PATH=/usr/sbin:/usr/bin container=test SYSTEMD_UNIT_PATH=/run/units \
  /lib/systemd/systemd --unit=basic.target --show-status=no
