#!/bin/sh
# What tests/vm needs, on Debian 12 as root: QEMU, and kernels of several Debian releases, unpacked and
# not installed.
#
#   .ci/setup-vm.sh [SERIES…|all]    6.18 if none is given; what is there already stays
set -eu
cd "$(dirname "$0")/.."
mkdir -p "${CARGO_TARGET_DIR:-target}/vm/kernels"
vm=$(cd "${CARGO_TARGET_DIR:-target}/vm" && pwd)
export DEBIAN_FRONTEND=noninteractive
case ${1-} in
'') set -- 6.18 ;;
all) set -- 5.10 6.1 6.12 6.18 7.3 ;;
esac

apt-get update
apt-get install -y --no-install-recommends busybox-static ethtool iproute2 kmod libc-bin xz-utils

# The mirror that this machine has its packages from has the other releases too.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' |
  head -n 1)
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# From now on apt sees this release and one more, and leaves the machine's own lists alone.
use() {
  mkdir -p "$vm/apt/$1/lists/partial" "$vm/apt/$1/archives/partial"
  for suite in bookworm "$1"; do
    echo "deb [signed-by=$keyring] $mirror $suite main"
  done | sort -u >"$vm/apt/$1/sources"
  cat >"$vm/apt/$1/conf" <<END
Dir::Etc::sourcelist "$vm/apt/$1/sources";
Dir::Etc::sourceparts "-";
Dir::State::lists "$vm/apt/$1/lists";
Dir::Cache "$vm/apt/$1";
APT::Sandbox::User "root";
END
  export APT_CONFIG="$vm/apt/$1/conf"
  apt-get update
}

# Bookworm's own QEMU has no igb.
use bookworm-backports
apt-get install -y --no-install-recommends -t bookworm-backports qemu-system-x86 seabios

fetch() {
  case $1 in
  5.10) use bullseye ;;
  6.1) use bookworm ;;
  6.12) use trixie ;;
  *) use trixie-backports ;;
  esac
  newest=$(apt-cache pkgnames linux- | sort -V |
    sed -En "s/^linux-(binary|image)-($1\.[0-9]+[-+][^-]+-amd64)\$/\2/p" | tail -n 1)
  # Newer ones are in two packages, and linux-image only names them.
  packages=linux-image-$newest
  if apt-cache pkgnames "linux-modules-$newest" | grep -qx "linux-modules-$newest"; then
    packages="linux-binary-$newest linux-modules-$newest"
  fi
  work=$(mktemp -d "$vm/kernels/$1.XXXXXX")
  (
    cd "$work"
    # shellcheck disable=SC2086 # one or two of them
    apt-get download $packages
    for package in *.deb; do dpkg -x "$package" . && rm "$package"; done
    # As older packages have it.
    [ -d lib ] || ln -s usr/lib lib
    mkdir -p boot
    [ -f "boot/vmlinuz-$newest" ] || mv "lib/modules/$newest/vmlinuz" "boot/vmlinuz-$newest"
    depmod -b . "$newest"
  )
  mv "$work" "$vm/kernels/$1"
}

for series; do
  [ -d "$vm/kernels/$series" ] || fetch "$series"
done
