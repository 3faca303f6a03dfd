#!/bin/sh
# Lays out the root of the image in a folder: programs, the libraries that they load, certificates of public authorities,
# time zones, and names for the user and for looking up hosts. Nothing else: no shell, no package manager.
#
#   image/root.sh FOLDER PROGRAM…
#
# The Dockerfile calls it with the programs that it built. The tests call it with those of their own build, and start
# them from what it made.
set -eu
root="$1"
shift

install -D --mode=0755 --target-directory="$root/usr/local/bin" "$@"
# `libc.so.6 => /lib/…/libc.so.6 (0x…)`, and the loader itself: `/lib64/ld-linux-x86-64.so.2 (0x…)`.
ldd "$@" > "$root/libraries"
if grep 'not found' "$root/libraries" >&2; then exit 1; fi
for library in $(awk '$2 == "=>" { print $3 } NF == 2 && $1 ~ "^/" { print $1 }' "$root/libraries" | sort --unique); do
    install -D "$library" "$root$library"
done
rm "$root/libraries"

install -D --mode=0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
mkdir --parents "$root/usr/share"
cp --recursive --no-dereference /usr/share/zoneinfo "$root/usr/share/zoneinfo"
echo 'reprise:x:65532:65532:reprise:/:/sbin/nologin' > "$root/etc/passwd"
echo 'reprise:x:65532:' > "$root/etc/group"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
