#!/bin/sh
# Boots a Debian with its systemd in a container (systemd-nspawn), installs a package there as
# docs/deploy.md says, word for word, and does to the service what systemd and its operators do.
# usage: tools/unittest.sh PACKAGE [SUITE] (as root; SUITE is bookworm unless named)
#
# The HSM is a SoftHSM. Device rules (DevicePolicy) are not in force in a container.
set -eu

package=$(realpath "$1") suite=${2:-bookworm}
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] || { echo "unit-test: needs root, for debootstrap and systemd-nspawn" >&2; exit 1; }

tmp=$(mktemp -d)
root=$tmp/root
nspawn=
finish() {
	if [ -n "$nspawn" ] && kill "$nspawn" 2>/dev/null; then # which shuts the container down
		wait "$nspawn" || true
	fi
	rm -rf --one-file-system "$tmp"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { echo "unit-test: $*"; }
die() {
	say "$*" >&2
	[ -z "$nspawn" ] || inside journalctl -u mintmark --no-pager -n 40 >&2 || true
	exit 1
}

# inside COMMAND... runs a command in the container.
inside() {
	nsenter --target "$leader" --all env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"
}

# within SECONDS WHAT COMMAND... waits until a command succeeds.
within() {
	deadline=$(($(date +%s) + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$deadline" ] || die "not seen in time: $what"
		sleep 0.2
	done
	say "ok  $what"
}

# typed NAME prints what docs/deploy.md has to be typed under this name.
typed() {
	sed -n "/^<!-- typed: $1 -->\$/,/^<!-- end -->\$/p" docs/deploy.md | grep -v -e '^<!--' -e '^```'
}

of() { inside systemctl show mintmark.service --property="$1" --value; }
is() { [ "$(of "$1")" = "$2" ]; }

# answers STATUS PATH [TOKEN]: the API's answer over TLS, whose certificate is verified.
answers() {
	[ "$(inside curl -s -o /dev/null -w '%{http_code}' --cacert /etc/mintmark/tls-2026.crt \
		--resolve mint.example:8443:127.0.0.1 ${3:+-H "Authorization: Bearer $3"} "https://mint.example:8443$2")" = "$1" ]
}

# token prints a bearer token of the client of the configuration.
token() {
	# shellcheck disable=SC2016
	inside sh -c '
		b64() { openssl base64 -A | tr "+/" "-_" | tr -d "="; }
		now=$(date +%s)
		body=$(printf "{\"alg\":\"RS256\",\"kid\":\"2026-1\"}" | b64).$(printf "{\"iss\":\"https://issuer.example\",\"aud\":\"mintmark\",\"sub\":\"a\",\"iat\":%d,\"exp\":%d}" $now $((now + 300)) | b64)
		printf %s.%s "$body" "$(printf %s "$body" | openssl dgst -sha256 -sign /root/issuer.key -binary | b64)"'
}

boot() {
	debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps,softhsm2,openssl,curl "$suite" "$root" >"$tmp/log" 2>&1 || { tail "$tmp/log" >&2; exit 1; }
	alone= # a host without systemd has nobody to register with
	[ -d /run/systemd/system ] || alone="--register=no --keep-unit"
	# cgroup2, as Debian 12 and later have it, also where the host is older.
	# shellcheck disable=SC2086
	SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --boot $alone --machine="mintmark-unit-$$" --private-network --console=pipe -D "$root" </dev/null >"$tmp/log" 2>&1 &
	nspawn=$!
	for _ in $(seq 300); do
		leader=$(cut -d ' ' -f 1 "/proc/$nspawn/task/$nspawn/children" 2>/dev/null) || break
		if [ -n "$leader" ]; then
			case $(inside systemctl is-system-running 2>/dev/null) in running | degraded) return ;; esac
		fi
		sleep 0.2
	done
	nspawn=
	tail -5 "$tmp/log" >&2
	die "this machine cannot boot systemd in a container: no more is tried"
}

# operator makes what an operator brings along: the package, a token, a client's key, and what
# they write into the configuration.
operator() {
	cp "$package" "$root/root/"
	cat >"$root/root/operator" <<'END'
set -eu
printf 'directories.tokendir = /var/lib/mintmark/softhsm\nobjectstore.backend = file\n' >/etc/mintmark/softhsm2.conf
mintmark-shell sh -c 'mkdir -m 0700 ~/softhsm && SOFTHSM2_CONF=/etc/mintmark/softhsm2.conf softhsm2-util --init-token --free --label issuer --so-pin 12345678 --pin 87654321'
openssl genrsa -out /root/issuer.key 2048
openssl rsa -in /root/issuer.key -pubout -out /etc/mintmark/issuer.pem
sed -i -e 's|environment: {}|environment: {SOFTHSM2_CONF: /etc/mintmark/softhsm2.conf}|' \
	-e 's|/usr/lib/vendor/libpkcs11.so|/usr/lib/softhsm/libsofthsm2.so|' \
	-e 's|^admin:|shutdownDelay: 5s\nadmin:|' /etc/mintmark/mintmark.yaml
END
	# The page's commands: in place of the keyboard the PIN comes through a pipe.
	typed install >"$root/root/install"
	typed keys >"$root/root/keys"
	inside sh -eu -c 'cd /root && printf "87654321\n" | sh -eu install' >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; die "the page's installation does not work"; }
	inside sh /root/operator >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; die "no token"; }
	inside sh -c '{ echo "set -eu"; cat /root/keys; } | mintmark-shell sh' >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; die "the page's keys cannot be made"; }
	grep -q 'mintmark.yaml is in order' "$tmp/log" || die "the configuration is not in order"
	say "ok  installed, keys made and configuration in order, as docs/deploy.md says"
}

started() {
	inside sh -eu -c "$(typed start)" >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; die "the service does not start"; }
	is Type notify || die "the service is not of Type=notify"
	is ActiveState active || die "not active"
	say "ok  systemctl start ended when the service said READY=1"
	within 30 "readyz" inside curl -sf 127.0.0.1:9090/readyz
	[ "$(inside stat -c '%U %a' /var/lib/mintmark/mintmark.db)" = "mintmark 600" ] || die "whose is the database?"
	inside nsenter --target "$(of MainPID)" --mount ls -l /run/credentials/mintmark.service/pin
	! inside find /etc /var /run/mintmark* -name pin -type f 2>/dev/null | grep . || die "the PIN is somewhere else, too"
	say "ok  the PIN came as the credential"
	if inside mintmark doctor --config /etc/mintmark/mintmark.yaml 2>"$tmp/log"; then
		die "root was allowed to leave files that the service cannot open"
	fi
	grep -q 'is of the user mintmark' "$tmp/log"
	inside mintmark-shell mintmark doctor >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; die "doctor beside the service"; }
	say "ok  doctor in mintmark-shell, and not as root"
}

# confined has a script tried under the unit's own restrictions, and without them.
confined() {
	cat >"$root/usr/local/sbin/tries" <<'END'
try() { what=$1; shift; if "$@" >/dev/null 2>&1; then echo "$what: yes"; else echo "$what: no"; fi; }
try "write to its state" touch /var/lib/mintmark/tried
try "write to its configuration" touch /etc/mintmark/tried
try "see other processes" test -d /proc/1
try "make a namespace" unshare --user true
try "change its personality" setarch -R true
try "make a setuid file" sh -c 'touch /tmp/tried && chmod u+s /tmp/tried'
echo "user: $(id -un)"
grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
END
	sed -e 's|^ExecStart=.*|ExecStart=/bin/sh /usr/local/sbin/tries\nStandardOutput=truncate:/run/tries|' -e 's/^Type=.*/Type=oneshot/' \
		-e '/^Restart/d' -e '/^WatchdogSec/d' -e '/^ExecReload/d' deploy/mintmark.service >"$root/etc/systemd/system/tries.service"
	inside systemctl daemon-reload
	inside runuser -u mintmark -- sh /usr/local/sbin/tries >"$tmp/free"
	inside systemctl start tries
	inside cat /run/tries >"$tmp/confined"
	diff "$tmp/free" "$tmp/confined" | sed 's/^/    /' || true
	for line in 'write to its state: yes' 'write to its configuration: no' 'see other processes: no' 'make a namespace: no' \
		'change its personality: no' 'make a setuid file: no' 'user: mintmark' 'NoNewPrivs:	1' 'CapBnd:	0000000000000000' 'Seccomp:	2'; do
		grep -qxF "$line" "$tmp/confined" || { cat "$tmp/confined" >&2; die "under the unit: not '$line'"; }
	done
	inside systemd-analyze security --no-pager --threshold=20 mintmark.service >"$tmp/log" || die "too much exposure"
	tail -1 "$tmp/log"
	say "ok  the unit's restrictions are in force (<: without, >: with them)"
}

used() {
	bearer=$(token)
	answers 401 /v1/cards/none || die "a caller without a token"
	answers 404 /v1/cards/none "$bearer" || die "a caller with one"
	say "ok  requests over TLS with the key in the token: 401 and 404"
	inside sed -i 's/, readCards\]/]/' /etc/mintmark/mintmark.yaml
	inside systemctl reload mintmark
	within 20 "systemctl reload: a right that is gone is refused with 403" answers 403 /v1/cards/none "$bearer"
	within 20 "active again after the reload" is ActiveState active
}

# killed does what ends a process, and waits for another in its place.
killed() {
	pid=$(of MainPID) restarts=$(($(of NRestarts) + 1))
	inside journalctl -u mintmark -o cat _PID="$pid" >"$tmp/lines"
	! grep -v '^{"time":".*}$' "$tmp/lines" || die "the service's lines in the journal are not all JSON"
	say "ok  the journal has $(wc -l <"$tmp/lines") lines of the process, all JSON"
	inside kill -STOP "$pid"
	within 120 "watchdog: a stopped process is killed and started anew" is NRestarts "$restarts"
	inside journalctl -u mintmark -o cat | grep -m 1 'Watchdog timeout'
	within 30 "ready" inside curl -sf 127.0.0.1:9090/readyz
	# systemd 257 may wait for TimeoutStopSec here until it believes that the control group is empty.
	inside kill -KILL "$(of MainPID)"
	within 90 "kill -9: started anew" is NRestarts $((restarts + 1))
	within 30 "ready" inside curl -sf 127.0.0.1:9090/readyz
}

stopped() {
	inside systemctl stop --no-block mintmark
	within 4 "told to stop: not ready" sh -c '! "$@"' - nsenter --target "$leader" --all curl -sf 127.0.0.1:9090/readyz
	answers 403 /v1/cards/none "$(token)" || die "not answered while it drains"
	within 45 "drained and stopped" is ActiveState inactive
	is ExecMainStatus 0 || die "it ended with $(of ExecMainStatus)"
	say "ok  exit status 0"
}

# packaged updates and purges the package while the service runs.
packaged() {
	inside systemctl start mintmark
	pid=$(of MainPID)
	inside sh -c 'dpkg -i /root/*.deb' | grep upgrade.md
	is MainPID "$pid" || die "an update restarted the service"
	say "ok  an update leaves the service alone"
	inside dpkg --purge mintmark >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; die "purge"; }
	! inside kill -0 "$pid" 2>/dev/null || die "the service outlived its package"
	inside journalctl -u mintmark -o cat | tail -3 | grep 'Deactivated successfully'
	inside test -f /var/lib/mintmark/mintmark.db
	inside test -f /etc/mintmark/keyring.yaml
	inside test ! -e /etc/mintmark/mintmark.yaml
	say "ok  a purge stops it, and leaves record and keyring"
}

boot
say "ok  booted: $(inside systemctl --version | head -1), $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' "$root/etc/os-release")"
operator
started
confined
used
killed
stopped
packaged
say "all well"
