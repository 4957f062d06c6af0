#!/bin/busybox sh
# The first process of the machine that `cargo xtask kernels` boots: mounts the files of the machine
# that booted it, read-only, with a memory file system over them for all that is written, and goes on
# there. What it is to run is in the kernel's command line: tierwall.run=DIRECTORY.
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /host /over /new
/bin/busybox --install -s /bin
fail() {
	echo "tierwall: $*"
	poweroff -f
}
mount -t proc proc /proc || fail "no /proc"
mount -t devtmpfs dev /dev || fail "no /dev"
# In the order in which they need each other.
while read -r module; do
	insmod "/modules/$module" || fail "can't load $module"
done </modules/order
options=trans=virtio,version=9p2000.L,msize=512000
mount -t 9p -o ro,cache=loose,$options host /host || fail "can't mount the files of the machine"
mount -t tmpfs -o size=75% over /over || fail "no tmpfs"
mkdir /over/upper /over/work
mount -t overlay -o lowerdir=/host,upperdir=/over/upper,workdir=/over/work overlay /new ||
	fail "no overlay"
for word in $(cat /proc/cmdline); do
	case $word in tierwall.run=*) run=${word#tierwall.run=} ;; esac
done
mount -t tmpfs run /new/run || fail "no /run"
mkdir /new/run/results
# Without a cache: what is written there is read over here at once.
mount -t 9p -o rw,cache=none,$options results /new/run/results || fail "can't mount the place for results"
mount --move /dev /new/dev
umount /proc
exec switch_root /new /bin/sh "$run/guest.sh" "$run"
