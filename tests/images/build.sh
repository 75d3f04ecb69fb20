#!/bin/bash
# Makes the images that the tests and the walkthroughs use out of Debian's (or Ubuntu's) own packages, and pushes them to
# a registry, under the names that they have on Docker Hub:
#
#     tests/images/build.sh                    only makes them, and writes docker-archives of them
#     tests/images/build.sh 127.0.0.1:5000     and pushes them there, by plain HTTP
#
# What is made is kept in $SKIFF_TEST_CACHE (by default ~/.cache/skiff-test-images), so that a second run takes seconds:
#
#     images/NAME/    the images, as oci.py has them
#     NAME.tar        the same for `skiff image load`
#     registry/       the same as the data of a docker-registry
set -euo pipefail
umask 022
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
registry=${1:-}
cache=${SKIFF_TEST_CACHE:-${HOME:-/root}/.cache/skiff-test-images}

fail() {
	echo "tests/images/build.sh: $*" >&2
	exit 1
}

[ $# -le 1 ] || fail "usage: $0 [REGISTRY_ADDRESS]"
for tool in python3:python3 gcc:gcc dpkg-deb:dpkg apt-get:apt apt-cache:apt tar:tar sha256sum:coreutils flock:util-linux setsid:util-linux \
	docker-registry:docker-registry; do
	command -v "${tool%%:*}" >/dev/null || fail "${tool%%:*} is missing (package ${tool##*:})"
done
oci() { python3 "$here/oci.py" "$@"; }

mkdir -p "$cache"
# Another run may be at it; the second one finds all done.
exec 9>"$cache/lock"
flock 9

# Made anew when this script or what it uses changes.
stamp=$(cat "$here/build.sh" "$here/oci.py" "$here/registry.sh" "$here"/*.c | sha256sum | cut -c1-16)-$(dpkg --print-architecture)
work= pid=
end() {
	[ -z "$pid" ] || kill "$pid"
	[ -z "$work" ] || rm -rf "$work"
}
trap end EXIT

# The packages that must be there for the given ones to run: they and the libraries that they need, without what only an
# installed system needs (maintainer scripts' tools, service files).
closure() {
	local seen=" $* " next=("$@") found
	# One question for each step away from the given ones: apt takes its time to start.
	while [ ${#next[@]} -gt 0 ]; do
		found=$(apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
			--no-enhances "${next[@]}" | sed -n 's/^ *|\?\(Pre\)\?Depends: //p' | sort -u)
		next=()
		for found in $found; do
			if [[ $found =~ ^(lib|zlib|perl)[^:]*$ && $seen != *" $found "* ]]; then
				next+=("$found")
				seen+="$found "
			fi
		done
	done
	tr ' ' '\n' <<<"$seen" | sed '/^$/d' | sort -u
}

# Lists a layer's packages: the closure of some, without what a layer below has.
packages() {
	closure "$@" | grep -vxF -f "$work/base.packages" || true
}

# Unpacks packages into a directory whose /bin, /sbin and /lib are links into /usr, as on an installed system.
unpack() {
	local root=$1 package file
	shift
	mkdir -p "$root"/usr/{bin,sbin,lib,lib64}
	for package in bin sbin lib lib64; do ln -sfn "usr/$package" "$root/$package"; done
	mkdir -p "$work/debs"
	(cd "$work/debs" && apt-get -qq -o APT::Sandbox::User=root download "$@" >/dev/null) ||
		fail "apt-get could not download $*; are the package lists current (apt-get update)?"
	for package; do
		for file in "$work/debs/${package}"_*.deb; do
			dpkg-deb --fsys-tarfile "$file" | tar -x --keep-directory-symlink --no-same-owner -C "$root"
		done
	done
	rm -rf "$root"/usr/share/{doc,man,locale,info,lintian,bash-completion,menu,bug,perl5/Debian} \
		"$root"/usr/lib/*/gconv "$root"/usr/lib/*/audit "$root"/usr/lib/systemd "$root"/lib/systemd \
		"$root"/etc/{init.d,systemd,logrotate.d,ufw,cron.d} "$root"/var/{cache,lib,mail}
	find "$root" -name '*.pod' -delete
}

# What a layer shares with the one below is not in it.
trim() {
	local name
	for name in bin sbin lib lib64; do
		[ ! -L "$1/$name" ] || rm "$1/$name"
	done
	find "$1" -mindepth 1 -type d -empty -not -path "$1/var/*" -not -path "$1/tmp" -delete
}

# All of busybox' commands under $1/$2, beside what is there.
applets() {
	local root=$1 directory=$2 applet
	for applet in $("$root/$directory/busybox" --list); do
		[ -e "$root/$directory/$applet" ] || [ -L "$root/$directory/$applet" ] ||
			ln -s busybox "$root/$directory/$applet"
	done
}

accounts() {
	mkdir -p "$1"/{etc,tmp,root,dev,proc,sys,run,var/log,home}
	chmod 1777 "$1/tmp"
	chmod 700 "$1/root"
	printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'daemon:x:1:1:daemon:/:/bin/false' \
		'curl_user:x:100:101:curl:/home/curl_user:/bin/sh' 'nginx:x:101:101:nginx:/nonexistent:/bin/false' \
		'nobody:x:65534:65534:nobody:/home:/bin/false' >"$1/etc/passwd"
	printf '%s\n' 'root:x:0:' 'daemon:x:1:' 'tty:x:5:' 'adm:x:4:' 'nginx:x:101:' 'nogroup:x:65534:' >"$1/etc/group"
	printf 'hosts: files dns\n' >"$1/etc/nsswitch.conf"
}

compile() {
	mkdir -p "$(dirname "$2")"
	gcc -static -Os -s -o "$2" "$here/$1" || fail "gcc could not build $1 statically (package libc6-dev)"
}

make_all() {
	local images=$work/images layers=$work/layers tree=$work/trees
	mkdir -p "$images" "$layers" "$tree"
	local package
	for package in busybox-static nginx perl curl; do
		apt-cache show "$package" >/dev/null 2>&1 || fail "apt knows no package $package; run apt-get update"
	done

	echo "making hello-world, luksa/kubia" >&2
	compile hello.c "$tree/hello/hello"
	oci pack "$tree/hello" "$layers/hello"
	oci make "$images/hello-world" oci '{"Cmd": ["/hello"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "WorkingDir": "/"}' "$layers/hello"

	echo "making busybox" >&2
	: >"$work/base.packages"
	unpack "$tree/base" busybox-static
	accounts "$tree/base"
	applets "$tree/base" usr/bin
	oci pack "$tree/base" "$layers/busybox"
	oci make "$images/busybox" docker '{"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}' "$layers/busybox"

	compile kubia.c "$tree/kubia/usr/local/bin/kubia"
	oci pack "$tree/kubia" "$layers/kubia"
	oci make "$images/kubia" docker '{"Entrypoint": ["kubia"], "ExposedPorts": {"8080/tcp": {}}, "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}' "$layers/busybox" "$layers/kubia"

	# What the larger images have in common is one layer, stored once wherever they are.
	# libssl's name is not the same in every release.
	closure libc6 libcrypt1 zlib1g $(closure nginx | grep '^libssl') >"$work/libraries"
	unpack "$tree/libraries" $(cat "$work/libraries")
	trim "$tree/libraries"
	oci pack "$tree/libraries" "$layers/libraries"
	{ cat "$work/libraries"; echo busybox-static; } >"$work/base.packages"

	echo "making nginx" >&2
	unpack "$tree/nginx" $(packages nginx nginx-common)
	rm -rf "$tree"/nginx/etc/nginx/{sites-*,modules-*,snippets} "$tree"/nginx/{etc/default,usr/share/{vim,nginx/modules*,apport},var/www}
	mkdir -p "$tree"/nginx/{etc/nginx/conf.d,usr/share/nginx/html,var/log/nginx,var/cache/nginx,var/lib/nginx,run}
	touch "$tree/nginx/var/cache/nginx/.keep" "$tree/nginx/var/lib/nginx/.keep"
	ln -sf /dev/stdout "$tree/nginx/var/log/nginx/access.log"
	ln -sf /dev/stderr "$tree/nginx/var/log/nginx/error.log"
	cat >"$tree/nginx/etc/nginx/nginx.conf" <<-'CONF'
		user nginx;
		worker_processes auto;
		error_log /var/log/nginx/error.log notice;
		pid /run/nginx.pid;
		events { worker_connections 1024; }
		http {
		    include /etc/nginx/mime.types;
		    default_type application/octet-stream;
		    log_format main '$remote_addr - $remote_user [$time_local] "$request" '
		                    '$status $body_bytes_sent "$http_referer" '
		                    '"$http_user_agent" "$http_x_forwarded_for"';
		    access_log /var/log/nginx/access.log main;
		    sendfile on;
		    keepalive_timeout 65;
		    include /etc/nginx/conf.d/*.conf;
		}
	CONF
	cat >"$tree/nginx/etc/nginx/conf.d/default.conf" <<-'CONF'
		server {
		    listen 80;
		    server_name localhost;
		    location / {
		        root /usr/share/nginx/html;
		        index index.html index.htm;
		    }
		}
	CONF
	cat >"$tree/nginx/usr/share/nginx/html/index.html" <<-'HTML'
		<!DOCTYPE html>
		<html>
		<head><title>Welcome to nginx!</title></head>
		<body>
		<h1>Welcome to nginx!</h1>
		<p>This page is served by Debian's nginx in a container.</p>
		</body>
		</html>
	HTML
	trim "$tree/nginx"
	oci pack "$tree/nginx" "$layers/nginx"
	oci make "$images/nginx" docker '{"Cmd": ["nginx", "-g", "daemon off;"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT", "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}' \
		"$layers/busybox" "$layers/libraries" "$layers/nginx"

	echo "making perl" >&2
	unpack "$tree/perl" $(packages perl perl-base | grep -v '^dpkg$')
	rm -rf "$tree"/perl/usr/share/perl/*/pod "$tree"/perl/usr/lib/*/perl/*/CORE "$tree"/perl/usr/share/perl/*/unicore/*.txt \
		"$tree"/perl/usr/lib/*/perl/*/auto/Encode/{CN,JP,KR,TW} "$tree"/perl/usr/bin/perl5*-*
	trim "$tree/perl"
	oci pack "$tree/perl" "$layers/perl"
	oci make "$images/perl" docker '{"Cmd": ["perl", "-de0"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "WorkingDir": "/usr/src/app"}' \
		"$layers/busybox" "$layers/libraries" "$layers/perl"

	echo "making curlimages/curl" >&2
	unpack "$tree/curl" $(packages curl) ca-certificates
	rm -rf "$tree"/curl/usr/share/{zsh,icons,doc-base}
	mkdir -p "$tree"/curl/{etc/ssl/certs,home/curl_user}
	cat "$tree"/curl/usr/share/ca-certificates/mozilla/*.crt >"$tree/curl/etc/ssl/certs/ca-certificates.crt"
	rm -rf "$tree"/curl/usr/share/ca-certificates
	# As in the original: an option or a URL is curl's, anything else is a command.
	cat >"$tree/curl/entrypoint.sh" <<-'SH'
		#!/bin/sh
		set -e
		if [ "${1#-}" != "$1" ] || [ -z "$(command -v "$1")" ]; then
			set -- curl "$@"
		fi
		exec "$@"
	SH
	chmod 755 "$tree/curl/entrypoint.sh"
	trim "$tree/curl"
	oci pack "$tree/curl" "$layers/curl"
	oci make "$images/curl" docker '{"Entrypoint": ["/entrypoint.sh"], "Cmd": ["curl"], "User": "curl_user", "WorkingDir": "/home/curl_user", "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}' \
		"$layers/busybox" "$layers/libraries" "$layers/curl"
}

# image directory, repository, tags
catalogue="
hello-world library/hello-world latest
busybox library/busybox latest 1.35
nginx library/nginx latest 1.22
perl library/perl latest
curl curlimages/curl latest
kubia luksa/kubia latest
"

push_all() {
	local name repository tags
	while read -r name repository tags; do
		[ -n "$name" ] || continue
		# shellcheck disable=SC2086  # tags are words
		oci push "$1/$name" "$2" "$repository" $tags
	done <<<"$catalogue"
}

if [ "$(cat "$cache/stamp" 2>/dev/null)" != "$stamp" ]; then
	work=$(mktemp -d "$cache/work.XXXXXX")
	make_all
	while read -r name repository tags; do
		[ -n "$name" ] || continue
		names=()
		for tag in $tags; do names+=("${repository#library/}:$tag"); done
		oci archive "$work/images/$name" "$work/$name.tar" "${names[@]}"
	done <<<"$catalogue"
	own=127.0.0.1:$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	# The lock (9) is not the registry's.
	pid=$("$here/registry.sh" "$own" "$work/run" 9>&-)
	push_all "$work/images" "$own"
	kill "$pid"
	pid=
	rm -rf "$cache/stamp" "$cache/images" "$cache/registry"
	mv "$work/images" "$work"/*.tar "$cache/"
	mv "$work/run/data" "$cache/registry"
	echo "$stamp" >"$cache/stamp"
fi

[ -z "$registry" ] || push_all "$cache/images" "$registry"
