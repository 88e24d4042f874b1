#!/bin/sh
# ensure.sh NAME... makes sure that tools which building and testing need are on
# this machine, and installs what is missing with the machine's own package manager.
#
#	softhsm     SoftHSM's module (or the one SOFTHSM2_MODULE names) and softhsm2-util
#	gcc         a C compiler and the C library's headers
#	node        Node.js
#	npm         its package manager
#	openssl     the command
#	ssh-keygen  the command
#	curl        the command
#	nss         NSS's PKCS#11 module and certutil
#	p11-kit     p11-kit's client and server of remote modules
#	chromium    a browser without a window, and a font for it
#	lintian     the command
#	debootstrap the command
#	promtool    Prometheus' tool, without its server
#	systemd-analyze  the command
#	systemd-nspawn   the command
#	postgresql  the server's programs, such as initdb; no server is set up or started
#	haproxy     the load balancer's program
#
# Knows apt-get (Debian, Ubuntu), dnf (Fedora), apk (Alpine) and brew (macOS), and uses
# sudo where root is needed. Says nothing and takes no time when all is there. If it
# cannot help it prints one line that says what to install, and exits 1.
set -eu

tools="softhsm gcc node npm openssl ssh-keygen curl nss p11-kit chromium lintian debootstrap promtool systemd-analyze systemd-nspawn postgresql haproxy"

die() {
	printf 'ensure: %s\n' "$*" >&2
	exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# any_file FILE...: true if one of the files exists. An unmatched pattern stays as it
# is, and no file has that name.
any_file() {
	for file in "$@"; do
		[ -e "$file" ] && return 0
	done
	return 1
}

# any_program FILE...: like any_file, for programs outside PATH.
any_program() {
	for file in "$@"; do
		[ -x "$file" ] && return 0
	done
	return 1
}

# softhsm, nss and postgresql look in the same places as the Go code that uses them.
present() {
	case $1 in
	softhsm)
		if [ -n "${SOFTHSM2_MODULE:-}" ]; then
			any_file "$SOFTHSM2_MODULE" || return 1
		else
			any_file \
				/usr/lib/softhsm/libsofthsm2.so \
				/usr/lib/*-linux-*/softhsm/libsofthsm2.so \
				/usr/lib64/softhsm/libsofthsm2.so \
				/usr/lib64/pkcs11/libsofthsm2.so \
				/usr/lib64/libsofthsm2.so \
				/usr/lib/pkcs11/libsofthsm2.so \
				/usr/lib/libsofthsm2.so \
				/usr/local/lib/softhsm/libsofthsm2.so \
				/opt/homebrew/lib/softhsm/libsofthsm2.so \
				/home/linuxbrew/.linuxbrew/lib/softhsm/libsofthsm2.so \
				/opt/local/lib/softhsm/libsofthsm2.so || return 1
		fi
		has softhsm2-util || any_program \
			/usr/local/bin/softhsm2-util /opt/homebrew/bin/softhsm2-util \
			/home/linuxbrew/.linuxbrew/bin/softhsm2-util /opt/local/bin/softhsm2-util
		;;
	nss)
		any_file \
			/usr/lib/*-linux-*/libsoftokn3.so \
			/usr/lib/*-linux-*/nss/libsoftokn3.so \
			/usr/lib64/libsoftokn3.so \
			/usr/lib/libsoftokn3.so \
			/opt/homebrew/lib/libsoftokn3.dylib \
			/usr/local/lib/libsoftokn3.dylib \
			/home/linuxbrew/.linuxbrew/lib/libsoftokn3.so || return 1
		has certutil
		;;
	gcc)
		# A compiler without headers is common on small systems.
		has gcc && echo '#include <stdlib.h>' | gcc -E -x c - >/dev/null 2>&1
		;;
	postgresql)
		has initdb || any_program \
			/usr/lib/postgresql/*/bin/initdb \
			/usr/libexec/postgresql*/initdb \
			/usr/pgsql-*/bin/initdb \
			/usr/local/pgsql/bin/initdb \
			/opt/homebrew/opt/postgresql*/bin/initdb \
			/usr/local/opt/postgresql*/bin/initdb
		;;
	p11-kit)
		any_file \
			/usr/lib/*-linux-*/pkcs11/p11-kit-client.so \
			/usr/lib64/pkcs11/p11-kit-client.so \
			/usr/lib/pkcs11/p11-kit-client.so \
			/opt/homebrew/lib/pkcs11/p11-kit-client.so
		;;
	chromium) has chromium || has chromium-browser ;;
	haproxy) has haproxy || any_program /usr/sbin/haproxy /usr/local/sbin/haproxy ;;
	node | npm | openssl | ssh-keygen | curl | lintian | debootstrap | promtool | systemd-analyze | systemd-nspawn) has "$1" ;;
	*) die "unknown tool $1 (known: $tools)" ;;
	esac
}

# packages MANAGER NAME: the packages that hold a tool.
packages() {
	case $1/$2 in
	apt-get/softhsm) echo softhsm2 ;;
	apt-get/nss) echo libnss3 libnss3-tools ;;
	apt-get/chromium) echo chromium fonts-liberation ;;
	dnf/chromium) echo chromium liberation-fonts ;;
	apk/chromium) echo chromium font-liberation ;;
	apt-get/p11-kit) echo p11-kit p11-kit-modules ;;
	dnf/p11-kit) echo p11-kit p11-kit-server ;;
	apk/p11-kit) echo p11-kit p11-kit-server ;;
	dnf/nss) echo nss-softokn nss-tools ;;
	apk/nss) echo nss nss-tools ;;
	apt-get/gcc) echo gcc libc6-dev ;;
	apk/gcc) echo gcc musl-dev ;;
	dnf/gcc) echo gcc glibc-devel ;;
	dnf/postgresql) echo postgresql-server ;;
	brew/node | brew/npm) echo node ;;
	brew/postgresql) echo postgresql@17 ;;
	*/node) echo nodejs ;;
	*/systemd-analyze) echo systemd ;;
	*/systemd-nspawn) echo systemd-container ;;
	apt-get/ssh-keygen) echo openssh-client ;;
	apk/ssh-keygen) echo openssh-keygen ;;
	*/ssh-keygen) echo openssh ;;
	*) echo "$2" ;;
	esac
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# What apt-get bears with: a mirror that breaks off, and another apt-get at work, which a
# machine that has just started runs by itself.
patience="-o Acquire::Retries=3 -o DPkg::Lock::Timeout=300"

# apt PACKAGE...: installs, with fresh package lists only if the present ones do not
# do: they may be missing (a new container) or name files that are gone. A list that could not
# be fetched is no failure of apt-get update, so that both are tried anew.
apt() {
	# Options have no blanks in them: they are meant to be split.
	# shellcheck disable=SC2086
	set -- env DEBIAN_FRONTEND=noninteractive apt-get $patience install -y --no-install-recommends "$@"
	as_root "$@" && return
	for pause in 0 10 30; do
		sleep "$pause"
		# shellcheck disable=SC2086
		as_root apt-get $patience update && as_root "$@" && return
	done
	return 1
}

# apt_postgresql installs the server without the cluster that Debian makes and starts
# along with it: Debian's own setting for that is changed for the time of the
# installation, and clean_up changes it back.
apt_postgresql() {
	apt postgresql-common || return 1
	cp "$cluster_conf" "$tmp/saved" || return 1
	as_root sh -c "echo 'create_main_cluster = false' >>$cluster_conf" || return 1
	apt postgresql
}

# apt_promtool takes the tool out of Debian's package: installed, that would start a server.
apt_promtool() {
	chmod 755 "$tmp"
	(cd "$tmp" && apt-get download prometheus && dpkg -x prometheus_*.deb x) || return 1
	as_root install -m 755 "$tmp/x/usr/bin/promtool" /usr/local/bin/promtool
}

# install MANAGER NAME
install() {
	# Package names have no blanks: they are meant to be split.
	# shellcheck disable=SC2046
	case $1/$2 in
	apt-get/postgresql) apt_postgresql ;;
	apt-get/promtool) apt_promtool ;;
	apt-get/*) apt $(packages "$1" "$2") ;;
	dnf/*) as_root dnf install -y -q $(packages "$1" "$2") ;;
	apk/*) as_root apk add --no-cache -q $(packages "$1" "$2") ;;
	brew/*) brew install -q $(packages "$1" "$2") ;;
	esac
}

[ $# -gt 0 ] || die "usage: ensure.sh NAME... (known: $tools)"

missing=
for name in "$@"; do
	present "$name" || missing="$missing $name"
done
[ -n "$missing" ] || exit 0

manager=
for known in apt-get dnf apk brew; do
	if has "$known"; then
		manager=$known
		break
	fi
done
[ -n "$manager" ] || die "please install:$missing (no apt-get, dnf, apk or brew here to do it)"

wanted=
for name in $missing; do
	wanted="$wanted $(packages "$manager" "$name")"
done
byhand="please install:$missing ($manager packages:$wanted)"
# Homebrew's gcc is not called gcc, and Apple's compiler is not a package.
case "$manager $missing " in
"brew "*" gcc "*) die "please install: gcc (xcode-select --install)" ;;
esac
if [ "$manager" != brew ] && [ "$(id -u)" -ne 0 ] && ! has sudo; then
	die "$byhand; not root, and no sudo"
fi

tmp=$(mktemp -d)
log=$tmp/log
cluster_conf=/etc/postgresql-common/createcluster.conf
clean_up() {
	if [ -s "$tmp/saved" ]; then
		as_root sh -c "cat '$tmp/saved' >$cluster_conf"
	fi
	rm -rf "$tmp"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "ensure: installing$wanted" >&2
for name in $missing; do
	install "$manager" "$name" >>"$log" 2>&1 || die "$byhand; $manager said: $(tail -n 1 "$log")"
	present "$name" || die "$byhand; $manager installed them, but $name is not where it is looked for"
done
