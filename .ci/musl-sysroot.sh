#!/bin/sh
# Gives Debian's compiler what `rustup target add x86_64-unknown-linux-musl` would have given it:
# DEST becomes a toolchain directory with a standard library for musl, built from rust-web-src.
#
#   .ci/musl-sysroot.sh DEST
set -eu
dest=$1
target=x86_64-unknown-linux-musl
sysroot=/usr/lib/rustlib
library=$sysroot/src/rust/library
commit=$(/usr/bin/rustc -vV | sed -n 's/^commit-hash: //p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# All but that library is Debian's.
mkdir -p "$dest/bin" "$dest/lib/rustlib"
for part in $sysroot/*; do ln -sfn "$part" "$dest/lib/rustlib/$(basename "$part")"; done
for tool in rustc rustdoc clippy-driver; do
  printf '#!/bin/sh\nexec /usr/bin/%s --sysroot "%s" "$@"\n' $tool "$dest" >"$work/$tool"
  install "$work/$tool" "$dest/bin/$tool"
done
ln -sf /usr/bin/cargo /usr/bin/cargo-clippy "$dest/bin/"

echo 'fn main() {}' >"$work/empty.rs"
if "$dest/bin/rustc" --target $target -o "$work/empty" "$work/empty.rs" 2>/dev/null; then exit; fi

# std is built as a dependency of an empty crate. panic_abort alone has to be built with the abort
# strategy, which a profile can't say; the bitcode is for LTO.
mkdir "$work/src"
echo '#![no_std]' >"$work/src/lib.rs"
printf '[package]\nname = "empty"\nedition = "2024"\n[workspace]\n' >"$work/Cargo.toml"
cat >"$work/rustc" <<'END'
#!/bin/sh
case " $* " in *" --crate-name panic_abort "*) set -- "$@" -Cpanic=abort ;; esac
exec /usr/bin/rustc "$@"
END
chmod +x "$work/rustc"
(
  cd "$work"
  separator=$(printf '\037')
  RUSTC=$work/rustc RUSTC_BOOTSTRAP=1 \
    CARGO_ENCODED_RUSTFLAGS="-Cembed-bitcode=yes$separator--remap-path-prefix=$library=/rustc/$commit/library" \
    /usr/bin/cargo build --release --target $target --target-dir "$work/target" \
    -Zbuild-std=std,panic_abort,panic_unwind,proc_macro,test --offline \
    --config 'source.crates-io.replace-with="std"' \
    --config "source.std.directory=\"$library/vendor\""
)
lib=$dest/lib/rustlib/$target/lib
rm -rf "$lib"
mkdir -p "$lib/self-contained"
rm "$work/target/$target/release/deps/libempty-"*
cp "$work/target/$target/release/deps/"*.rlib "$lib/"

# What rustc expects in self-contained/: musl's start files and libc, gcc's, and an unwinder.
cd "$lib/self-contained"
cp /usr/lib/x86_64-linux-musl/crt1.o /usr/lib/x86_64-linux-musl/Scrt1.o \
  /usr/lib/x86_64-linux-musl/rcrt1.o /usr/lib/x86_64-linux-musl/crti.o \
  /usr/lib/x86_64-linux-musl/crtn.o /usr/lib/x86_64-linux-musl/libc.a .
for file in crtbegin.o crtbeginS.o crtend.o crtendS.o; do cp "$(gcc -print-file-name=$file)" .; done
cp "$(find /usr/lib/llvm-*/lib -name libunwind.a | sort -V | tail -n 1)" .
# Debian fortifies the unwinder against glibc: the one symbol that musl lacks.
cat >"$work/fortify.c" <<'END'
#include <stdarg.h>
#include <stdio.h>

int __fprintf_chk(FILE *file, int flag, const char *format, ...)
{
    va_list arguments;
    (void)flag;
    va_start(arguments, format);
    int written = vfprintf(file, format, arguments);
    va_end(arguments);
    return written;
}
END
musl-gcc -O2 -fPIC -c "$work/fortify.c" -o "$work/fortify.o"
ar r libunwind.a "$work/fortify.o"
