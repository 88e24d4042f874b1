#!/bin/sh
# Checks a package with lintian, installs it in a Debian 12 made for the purpose, uses it as its
# user does, and removes it. usage: tools/debtest.sh PACKAGE (as root)
#
# There is no systemd running in there: tools/unittest.sh has one.
set -eu

package=$(realpath "$1")
lintian --fail-on error "$package"

root=$(mktemp -d)
trap 'umount "$root/dev/pts" "$root/proc" 2>/dev/null || true; rm -rf --one-file-system "$root" "$root.log"' EXIT
chmod 755 "$root"
debootstrap --variant=minbase --include=systemd,procps,softhsm2,openssl bookworm "$root" >"$root.log" 2>&1 || { tail "$root.log" >&2; exit 1; }
cp "$package" "$root/tmp/mintmark.deb"
inside() { chroot "$root" /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

mount -t proc proc "$root/proc" # systemd-tmpfiles refuses without
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts" # softhsm2-util asks for PINs
ln -sf pts/ptmx "$root/dev/ptmx"
inside dpkg -i /tmp/mintmark.deb
inside mintmark version
inside id mintmark
inside test "$(inside stat -c '%U %a' /var/lib/mintmark)" = "mintmark 700"
inside sh -c 'zcat /usr/share/man/man1/mintmark-serve.1.gz | grep -q "SH SYNOPSIS"'
inside bash -c '. /usr/share/bash-completion/completions/mintmark && type __start_mintmark' >/dev/null

# The example says by itself what it still lacks, and nothing else is wrong with it.
if inside mintmark config check --config /etc/mintmark/mintmark.yaml 2>"$root/tmp/wrong"; then
	echo "the example configuration passes without a keyring" >&2
	exit 1
fi
grep -q keyring.yaml "$root/tmp/wrong"
if grep -v -e 'no such file' -e '^   ' "$root/tmp/wrong"; then # indented: what to do
	echo "the example configuration is wrong" >&2
	exit 1
fi

# The whole of it, as the service's user, with a token of its own.
cat >"$root/tmp/journey" <<'END'
set -eu
cd /var/lib/mintmark
mintmark dev --data dev --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 >dev.log 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
for _ in $(seq 600); do
	[ -f dev/dev.json ] && break
	kill -0 "$server" || { cat dev.log >&2; exit 1; }
	sleep 0.1
done
mintmark demo --data dev >demo.log 2>&1 || { cat demo.log dev.log >&2; exit 1; }
tail -1 demo.log
kill "$server"
trap - EXIT
wait "$server"
END
inside setpriv --reuid mintmark --regid mintmark --clear-groups sh /tmp/journey

# An update replaces the program and leaves to people what is done with a service that runs.
inside dpkg -i /tmp/mintmark.deb | grep upgrade.md
inside test -f /usr/share/doc/mintmark/upgrade.md

# Removed and purged, it leaves the record.
inside dpkg --purge mintmark
inside test ! -e /usr/bin/mintmark
inside test ! -e /etc/mintmark/mintmark.yaml
inside test -d /var/lib/mintmark/dev
echo "deb-test: all well"
