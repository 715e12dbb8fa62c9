#!/bin/sh
# Process 1 of the guest: loads the drivers, runs the tests, and has QEMU end with their result, which
# it makes 2 * value + 1. No result, as after a panic of the kernel, is 0.
PATH=/bin
export PATH FANOUT_BINARY=/bin/fanout RUST_BACKTRACE=0
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
for module in /modules/*; do insmod "$module"; done
vm $(cat /arguments) >/dev/ttyS1 2>&1
result=$?
printf "\\$(printf %o $((result + 16)))" | dd of=/dev/port bs=1 seek=244 conv=notrunc
