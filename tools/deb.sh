#!/bin/sh
# Makes a Debian package of a binary that was built here.
# usage: tools/deb.sh BINARY MANPAGES VERSION OUTPUT-DIRECTORY
#
# The package is the same, byte for byte, for the same binary and SOURCE_DATE_EPOCH, which
# is the last commit's time unless it is set. Who answers for it stands in deploy/deb/control
# alone; the address there is a placeholder until somebody does.
set -eu

bin=$1 man=$2 version=$3 out=$4
cd "$(dirname "$0")/.."
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH

# A version that begins with no digit is a commit: older than any release.
case $version in
v[0-9]*) version=$(echo "${version#v}" | tr - +) ;;
*) version="0~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d).$(echo "$version" | tr - +)" ;;
esac
version=$version-1

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
umask 022
chmod 755 "$root"

put() { install -D -m "$1" "$2" "$root/$3"; }
put 755 "$bin" usr/bin/mintmark
put 755 deploy/deb/mintmark-shell usr/sbin/mintmark-shell
put 644 deploy/deb/mintmark-shell.8 usr/share/man/man8/mintmark-shell.8
put 644 deploy/mintmark.service usr/lib/systemd/system/mintmark.service
put 644 deploy/deb/sysusers.conf usr/lib/sysusers.d/mintmark.conf
put 644 deploy/deb/tmpfiles.conf usr/lib/tmpfiles.d/mintmark.conf
put 644 deploy/mintmark.yaml etc/mintmark/mintmark.yaml
put 644 deploy/prometheus/alerts.yaml usr/share/doc/mintmark/examples/alerts.yaml
put 644 deploy/grafana/mintmark.json usr/share/doc/mintmark/examples/grafana.json
put 644 deploy/deb/copyright usr/share/doc/mintmark/copyright
for page in docs/*.md; do
	put 644 "$page" "usr/share/doc/mintmark/$(basename "$page")"
done
put 644 deploy/deb/overrides usr/share/lintian/overrides/mintmark
put 644 CHANGELOG.md usr/share/doc/mintmark/changelog
"$bin" version --modules >"$root/usr/share/doc/mintmark/modules.txt"
for page in "$man"/*.1; do
	put 644 "$page" "usr/share/man/man1/$(basename "$page")"
done
cat >"$root/usr/share/doc/mintmark/changelog.Debian" <<END
mintmark ($version) bookworm; urgency=medium

  * See changelog.gz.

 -- $(sed -n 's/^Maintainer: //p' deploy/deb/control)  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END
gzip -9n "$root"/usr/share/man/man*/* "$root"/usr/share/doc/mintmark/changelog*

completion() {
	mkdir -p "$root/$2"
	"$bin" completion "$1" >"$root/$2/$3"
}
completion bash usr/share/bash-completion/completions mintmark
completion zsh usr/share/zsh/vendor-completions _mintmark
completion fish usr/share/fish/vendor_completions.d mintmark.fish

mkdir "$root/DEBIAN"
libc=$(objdump -T "$bin" | sed -n 's/.*(GLIBC_\([0-9.]*\)).*/\1/p' | sort -V | tail -1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$(dpkg --print-architecture)/" -e "s/@LIBC@/$libc/" \
	-e "s/@SIZE@/$(du -sk "$root" | cut -f1)/" deploy/deb/control >"$root/DEBIAN/control"
echo /etc/mintmark/mintmark.yaml >"$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
	install -m 755 "deploy/deb/$script" "$root/DEBIAN/$script"
done
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\n' | LC_ALL=C sort | xargs md5sum >DEBIAN/md5sums)
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

mkdir -p "$out"
dpkg-deb --root-owner-group -Zxz --build "$root" "$out/mintmark_${version}_$(dpkg --print-architecture).deb"
