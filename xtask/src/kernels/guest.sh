#!/bin/sh
# What runs in the machine that `cargo xtask kernels` boots: every test program that the file `list`
# names, one after the other. A line of it: the name, the directory to run it in, its path. Progress
# goes to the console, what a program writes to results/NAME.log and how it ended to
# results/NAME.status.
run=$1
results=/run/results
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm /run/tmp /run/lock
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup /sys/fs/cgroup
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
# Modules are loaded as the kernel asks for them.
version=$(uname -r)
mkdir -p "/lib/modules/$version"
mount --bind "$run/../files/lib/modules/$version" "/lib/modules/$version"
ip link set lo up
# The tests' files in memory, not over the files of the other machine.
export TMPDIR=/run/tmp
. "$run/environment"

echo "tierwall: kernel $version"
while IFS='	' read -r name directory program; do
	echo "tierwall: run $name"
	cd "$directory" || continue
	timeout "$limit" "$program" "$@" >"$results/$name.log" 2>&1 </dev/null
	echo $? >"$results/$name.status"
	echo "tierwall: end $name"
done <"$run/list"
sync
echo "tierwall: done"
echo o >/proc/sysrq-trigger
sleep 60
