#!/bin/sh
# From a bare Debian 12 to the toolchain that builds the eBPF object and the static binary:
# Debian's newer compiler, bpf-linker, and the standard library for musl. Needs root.
#
#   .ci/setup-debian.sh [DEST]       what is there already stays
set -eu
dest=${1:-/opt/rust-musl-bpf}
bpf_linker=0.13.0
export DEBIAN_FRONTEND=noninteractive

apt-get update
apt-get install -y --no-install-recommends ca-certificates llvm musl-tools \
  cargo-web libstd-rust-web-dev-bpf rust-web-clippy rust-web-src rustc-web
llvm=$(/usr/bin/rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
apt-get install -y --no-install-recommends "libunwind-$llvm-dev"

# It must read the bitcode of rustc, so it links the very libLLVM that rustc loads.
if ! "$dest/bin/bpf-linker" --version 2>/dev/null | grep -q " $bpf_linker\$"; then
  prefix=$(mktemp -d)
  trap 'rm -r "$prefix"' EXIT
  mkdir "$prefix/lib"
  ln -s "$(ldconfig -p | sed -n "s/.*libLLVM\.so\.$llvm\.[0-9]* .*=> //p" | head -n 1)" \
    "$prefix/lib/libLLVM.so"
  RUSTC=/usr/bin/rustc LLVM_PREFIX=$prefix /usr/bin/cargo install bpf-linker \
    --version "$bpf_linker" --locked --no-default-features --features "llvm-$llvm" --root "$dest"
fi

"$(dirname "$0")/musl-sysroot.sh" "$dest"
if command -v rustup >/dev/null; then rustup toolchain link musl-bpf "$dest"; fi
